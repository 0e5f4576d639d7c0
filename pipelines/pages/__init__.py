"""What a person reads of a prediction: one page per study and an index, each a single file that loads nothing."""
