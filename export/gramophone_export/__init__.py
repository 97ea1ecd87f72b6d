"""From published weights to a model that Gramophone can use: an ONNX file, its manifest, and a check of the two."""
