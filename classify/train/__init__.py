"""Training of stage 2: `python -m classify.train DATA RUN ...` or `lumbar classify train`."""
