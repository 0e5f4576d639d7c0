"""The fast grader beside the folds that it was made of: score on unseen studies, time and size."""
