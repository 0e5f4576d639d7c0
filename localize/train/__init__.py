"""Training of stage 1: `python -m localize.train DATA RUN ...` or `lumbar localize train`."""
