"""What an operator sees of a server: metrics, traces, health, and how they are served."""
