"""The gRPC services: they take requests, submit jobs and stream events. Nothing here imports torch."""
