"""Turns the bytes of a request into a job's spec: bounds on size and time, checks, defaults, decoded pictures."""
