"""What is computed canvas by canvas of a batch."""

import torch
from torch import Tensor

from ..objective import Evaluation


def per_canvas(chosen: Tensor, one: Tensor, other: Tensor | float, *, factor: Tensor | float = 1) -> Tensor:
    """Canvas by canvas of a batch (N, C, H, W) `factor` times the one where it is `chosen` (N,), else the other.

    On a CPU, where nobody waits for the answer, nothing is computed that is not chosen, and nothing copied if all is
    the same: not to be written to unless both are the caller's.
    """
    if chosen.device.type == "cpu":
        if isinstance(other, Tensor) and not chosen.any():
            return other
        if isinstance(factor, float | int) and factor == 1 and chosen.all():
            return one
    scaled = one * (per_pixel(factor) if isinstance(factor, Tensor) else factor)
    return torch.where(per_pixel(chosen), scaled, other)


def per_pixel(values: Tensor) -> Tensor:
    """Values of canvases (N,) in the shape (N, 1, 1, 1), to be multiplied with pixels."""
    return values.view(-1, 1, 1, 1)


def is_finite(at: Evaluation) -> Tensor:
    """Whether the loss and the gradient of each canvas are finite numbers, (N,)."""
    # A sum is not finite if a part of it is not; to ask every pixel takes four times as long.
    return torch.isfinite(at.loss) & torch.isfinite(at.gradient.sum((1, 2, 3)))
