"""The gRPC services: they read requests, submit jobs and stream events. No module here imports torch."""
