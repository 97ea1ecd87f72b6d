"""Public implementations of the same algorithm, timed beside ours, in a virtual environment of their own."""
