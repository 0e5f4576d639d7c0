"""Detections of a study to one chain of levels in patient space, and a point for each finding."""
