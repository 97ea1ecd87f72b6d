"""The worker process: owns one device, runs jobs, and reports to the front over a pipe.

Only this package and `engine` import torch; the front process does not.
"""
