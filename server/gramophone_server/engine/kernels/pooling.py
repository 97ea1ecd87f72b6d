"""Max pooling, whose backward pass runs in parallel also for a single canvas on a CPU."""

from typing import Any

import torch
from torch import Tensor

from .gradients import masked_

_pooled = torch.ops.aten.max_pool2d_with_indices.default
_gradient = torch.ops.aten.max_pool2d_with_indices_backward.default


def max_pool(x: Tensor, side: int, stride: int, padding: int, *, ceil: bool, relu: bool) -> Tensor:
    """Returns the maximum of each window (N, C, H_out, W_out) of x (N, C, H, W).

    Args:
        side, stride, padding: of the windows, in positions.
        ceil: whether windows that extend beyond the end of the map count.
        relu: whether ReLU follows.
    """
    pooled: Tensor = _MaxPool.apply(x, (side, stride, padding, 1, ceil), relu)
    return pooled


class _MaxPool(torch.autograd.Function):
    """Max pooling, and ReLU on its result if asked for.

    On a CPU, the backward pass of torch runs in parallel over the canvases of a batch only. So a canvas whose windows
    do not overlap is cut into rows of windows, which become a batch. With channels last in memory this takes no copy.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, window: tuple[Any, ...], relu: bool) -> Tensor:
        side, stride, padding, _, _ = window
        apart = side == stride and not padding and x.shape[2] % stride == 0
        cut = apart and x.is_contiguous(memory_format=torch.channels_last) and not x.is_cuda
        context.window, context.rows = window, stride if cut else 0
        pooled, indices = _pooled(_cut(x, context.rows), *window)
        if relu:
            pooled.relu_()
        pooled = _joined(pooled, len(x))
        context.save_for_backward(x, indices, pooled if relu else None)
        return pooled

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        x, indices, pooled = context.saved_tensors
        if pooled is not None:
            grad_output = masked_(grad_output, pooled)
        rows = _cut(x, context.rows)
        grad_output = _cut(grad_output, 1 if context.rows else 0)
        return _joined(_gradient(grad_output, rows, *context.window, indices), len(x)), None, None


def _cut(x: Tensor, rows: int) -> Tensor:
    """Returns (N, C, H, W) as a batch of strips of `rows` rows, (N·H / rows, C, rows, W); itself if `rows` is 0."""
    if not rows:
        return x
    n, channels, height, width = x.shape
    last = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return last.view(n * height // rows, rows, width, channels).permute(0, 3, 1, 2)


def _joined(strips: Tensor, n: int) -> Tensor:
    """Returns strips (N·H / rows, C, rows, W) as a batch (N, C, H, W) again."""
    if len(strips) == n:
        return strips
    batch, channels, rows, width = strips.shape
    return strips.permute(0, 2, 3, 1).reshape(n, batch * rows // n, width, channels).permute(0, 3, 1, 2)
