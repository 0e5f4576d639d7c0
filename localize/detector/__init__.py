"""One YOLO detector per view: training slices, training and detection. Only `yolo` imports ultralytics."""
