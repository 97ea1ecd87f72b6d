"""Reads networks from files: state dicts of known families, and ONNX files of any convolutional network."""
