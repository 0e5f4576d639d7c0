"""Curves of a training for TensorBoard and MLflow, on request and without any network."""
