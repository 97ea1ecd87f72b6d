"""Authentication of clients (tokens, certificates) and TLS."""
