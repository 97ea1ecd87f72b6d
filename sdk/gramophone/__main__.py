"""`python -m gramophone`: the same as `gramophone`."""

from .cli import main

main()
