"""Benchmarks of the numbers that the project promises; `make bench` runs them."""
