"""Metrics, traces and health of a server, and the HTTP endpoint of the metrics."""
