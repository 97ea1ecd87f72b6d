"""Fuzzing that is guided by what code it reaches: `python -m tests.fuzz`."""
