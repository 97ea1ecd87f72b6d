"""`python -m gramophone_server`: the same as `gramophone serve`."""

from .cli import serve

serve()
