"""The language both stages speak: labels, geometry, studies, tables, splits and the metric.

Imports numpy, pandas, pydicom and OpenCV; never torch or ultralytics.
"""
