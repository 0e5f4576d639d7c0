"""The files of a synthetic data set."""
