"""Pure numerics: torch in, torch out. No gRPC, no processes, no files.

A canvas is a batch of pictures of shape (N, 3, H, W): float32, RGB, 0 to 1. Everything that belongs to a picture
(targets, seed, weights, losses, optimizer state) has N as its first dimension, so a picture's result does not depend on
its batch.
"""
