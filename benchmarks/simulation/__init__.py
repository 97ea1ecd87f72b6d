"""Simulates many workers on one database, from measured times; `python -m benchmarks.simulate` runs it."""
