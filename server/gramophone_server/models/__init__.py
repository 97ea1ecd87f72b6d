"""Models: ONNX files with manifests, the folders that hold them, and feature extraction with ONNX Runtime."""
