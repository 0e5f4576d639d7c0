"""Networks that ONNX Runtime or OpenVINO computes in place of torch, from the files of `lumbar export`."""
