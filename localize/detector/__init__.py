"""One YOLO detector per view: its training slices, its training and its boxes. Only `yolo` imports ultralytics."""
