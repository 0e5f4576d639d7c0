"""The fast grader: one network that learns the mean answer of a run's folds (`lumbar classify distill DATA RUN`)."""
