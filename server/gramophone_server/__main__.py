"""`python -m gramophone_server`: the same as `gramophone serve`."""

from .cli.serve import serve

serve()
