"""The asynchronous client, of which `make sync` makes the synchronous one in `_sync`."""
