"""The command line `gramophone`: style, content, transfer, sweep, jobs, serve, models, export and others."""

from .main import main

__all__ = ["main"]
