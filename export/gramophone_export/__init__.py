"""Converts published weights to a Gramophone model: an ONNX file and a manifest, with a check against torch."""
