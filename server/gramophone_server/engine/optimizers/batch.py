"""Operations that treat each canvas of a batch separately."""

import torch
from torch import Tensor

from ..objective import Evaluation


def per_canvas(chosen: Tensor, one: Tensor, other: Tensor | float, *, factor: Tensor | float = 1) -> Tensor:
    """Returns, for each canvas of a batch, `factor * one` where `chosen` is true, else `other`.

    On a CPU, where reading `chosen` needs no synchronization, the function returns `one` or `other` itself if it is
    chosen for all canvases. So write to the result only if you may write to both.

    Args:
        chosen: (N,), bool.
        one: (N, C, H, W).
        other: (N, C, H, W) or a number.
        factor: (N,) or a number.
    """
    if _is_on_host(chosen):
        if isinstance(other, Tensor) and not chosen.any():
            return other
        if isinstance(factor, float | int) and factor == 1 and chosen.all():
            return one
    scaled = one * (per_pixel(factor) if isinstance(factor, Tensor) else factor)
    return torch.where(per_pixel(chosen), scaled, other)


def _is_on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def per_pixel(values: Tensor) -> Tensor:
    """Returns values (N,), one per canvas, in the shape (N, 1, 1, 1), which broadcasts over pixels."""
    return values.view(-1, 1, 1, 1)


def is_finite(at: Evaluation) -> Tensor:
    """Returns whether the loss and the gradient of each canvas are finite, (N,)."""
    # A sum with a summand that is not finite is not finite; testing every pixel takes four times as long.
    return torch.isfinite(at.loss) & torch.isfinite(at.gradient.sum((1, 2, 3)))
