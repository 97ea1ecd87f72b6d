"""Models: an ONNX file beside a manifest, where they are kept, and what runs them."""
