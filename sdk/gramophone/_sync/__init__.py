"""The synchronous client. All but `waiting.py` is generated from `_async` by `make sync`; do not edit."""
