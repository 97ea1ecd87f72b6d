"""Runs the command line: `python -m gramophone` is the same as `gramophone`."""

from .cli import main

main()
