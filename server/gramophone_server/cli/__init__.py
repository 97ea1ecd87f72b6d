"""The commands of the server: serve, tokens."""
