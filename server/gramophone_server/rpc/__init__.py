"""What all gRPC code shares: errors with details, violations of fields, wrappers of handlers."""
