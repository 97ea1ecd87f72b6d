"""The worker process: owns one device, runs jobs, talks back over a pipe. Only here and below is torch imported."""
