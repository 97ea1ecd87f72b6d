"""Shared by all gRPC code: errors with details, field violations, handler wrappers, reflection."""
