"""The server's commands: `gramophone serve` and `gramophone tokens`."""
