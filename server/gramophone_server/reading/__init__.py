"""From the bytes of a request to a job's spec: bounds of size and time, checks, defaults, pictures."""
