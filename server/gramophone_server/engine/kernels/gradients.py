"""Gradients of activations, changed in place.

Autograd asks functions to leave the gradients they are given alone, for two functions may have been given the same. The
gradient of an activation here is made for it: it comes from the one function that takes the activation further, or
from losses that each make their own. Not copying it saves memory, and its way through the memory, at the largest
tensors there are.
"""

from typing import Any

import torch
from torch import Tensor


def relu_(x: Tensor) -> Tensor:
    """ReLU in place, both ways."""
    y: Tensor = _ReLU.apply(x)
    return y


def masked_(slope: Tensor, y: Tensor) -> Tensor:
    """The slope (N, C, H, W) where y > 0, else 0; in the slope's place if it has channels last in memory."""
    in_place = slope.is_contiguous(memory_format=torch.channels_last)
    return masked(slope, y, out=slope if in_place else torch.empty_like(y))


def masked(slope: Tensor, y: Tensor, *, out: Tensor) -> Tensor:
    """The same in `out`."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(slope, y, 0, grad_input=out)
    return result


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        x.relu_()
        context.mark_dirty(x)
        context.save_for_backward(x)
        return x

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        (y,) = context.saved_tensors
        return masked_(slope, y)
