"""The gRPC surface: requests in, specs to the jobs, events out. Nothing here imports torch."""
