"""Stage 1: finds the five disc levels on sagittal and axial slices and a point for each finding.

Imports nothing of stage 2; only `localize.detector.yolo` imports ultralytics.
"""
