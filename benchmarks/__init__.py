"""The measurements behind results/. Run each as `python benchmarks/NAME.py` or `python -m benchmarks.NAME`."""
