"""Measurements behind results/; run each as `python -m benchmarks.NAME`."""
