"""Peers: other public implementations of the algorithm, timed for comparison in a separate virtual environment."""
