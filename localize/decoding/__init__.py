"""Decodes the detections of a study into one chain of levels in patient space and a point for each finding."""
