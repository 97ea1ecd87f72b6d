"""Checks and times every CUDA path on a real GPU: `python -m benchmarks.gpu`."""
