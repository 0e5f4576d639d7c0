"""`lumbar export`: the networks of a run as ONNX files, compared with torch."""
