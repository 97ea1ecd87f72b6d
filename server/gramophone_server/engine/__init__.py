"""The numerics of the optimization: functions and classes from torch tensors to torch tensors.

The engine knows no gRPC, starts no processes and reads or writes no picture files.

A canvas is a batch of N pictures of shape (N, 3, H, W): float32, RGB, 0 to 1. Everything that belongs to one picture
(targets, seed, weights, losses, optimizer state) has N as its first dimension, so a picture's result does not depend on
the other pictures of its batch.
"""
