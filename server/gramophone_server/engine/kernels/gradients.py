"""ReLU whose backward pass changes the gradient in place.

Autograd forbids functions to change the gradients that they receive, because two functions can receive the same tensor.
In this engine each activation has a gradient tensor of its own: it comes from the only function that uses the
activation, or from losses that each allocate their own. Changing it in place saves a copy of the largest tensors.
"""

from typing import Any

import torch
from torch import Tensor


def relu_(x: Tensor) -> Tensor:
    """Applies ReLU in place, and its derivative in place in the backward pass."""
    y: Tensor = _ReLU.apply(x)
    return y


def masked_(grad_output: Tensor, y: Tensor) -> Tensor:
    """Returns the gradient (N, C, H, W) where y > 0, else 0: the backward pass of ReLU.

    The result overwrites `grad_output` if that has channels last in memory.
    """
    in_place = grad_output.is_contiguous(memory_format=torch.channels_last)
    return masked(grad_output, y, out=grad_output if in_place else torch.empty_like(y))


def masked(grad_output: Tensor, y: Tensor, *, out: Tensor) -> Tensor:
    """Writes the gradient where y > 0, else 0, into `out`, and returns it."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad_output, y, 0, grad_input=out)
    return result


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        x.relu_()
        context.mark_dirty(x)
        context.save_for_backward(x)
        return x

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> Tensor:
        (y,) = context.saved_tensors
        return masked_(grad_output, y)
