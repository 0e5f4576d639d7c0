"""Importing this imports Ultralytics with its settings: for the server that forks worker processes."""

from localize.detector.yolo.inference import Detector
from localize.detector.yolo.library import ultralytics

__all__ = ["Detector", "tasks"]

ultralytics()
from ultralytics.nn import tasks  # noqa: E402 - only after the settings
