"""The asynchronous client. `make sync` generates the synchronous client in `_sync` from it."""
