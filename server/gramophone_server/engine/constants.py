"""Small constant tensors, made once per device and type."""

from functools import lru_cache

import torch
from torch import Tensor

Values = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(values: Values, *, like: Tensor) -> Tensor:
    """Returns a tensor with the given values, of the device and type of `like`. Callers must not change it.

    A new tensor of a GPU would be copied from the host each time, and the host would wait for the copy.
    """
    return _made(values, like.device, like.dtype)


@lru_cache(maxsize=64)
def _made(values: Values, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)
