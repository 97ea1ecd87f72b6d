"""Padding of feature maps along each axis: by zeros, by copies of the edge, or by the opposite edge.

With circular padding along both axes, the feature map is a torus. torch's own circular padding returns tensors with
channels first in memory, which makes the next convolution slow.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["zeros", "replicate", "circular"]
Paddings = tuple[Padding, Padding]
"""Padding along the vertical and along the horizontal axis."""
Widths = tuple[int, int, int, int]
"""Number of positions to add at the top, bottom, left and right."""

ZEROS: Paddings = ("zeros", "zeros")
REPLICATE: Paddings = ("replicate", "replicate")
CIRCULAR: Paddings = ("circular", "circular")


def padded(x: Tensor, widths: Widths, paddings: Paddings) -> Tensor:
    """Returns x (N, C, H, W) with `widths` positions added around it: (N, C, top + H + bottom, left + W + right)."""
    if not any(widths):
        return x
    # On a GPU the backward pass of torch's replicate padding adds in no fixed order.
    if paddings == REPLICATE and not x.is_cuda:
        top, bottom, left, right = widths
        return F.pad(x, (left, right, top, bottom), mode="replicate")
    y: Tensor = _Pad.apply(x, widths, paddings)
    return y


def fill_edges_(y: Tensor, widths: Widths, paddings: Paddings) -> None:
    """Overwrites the outer `widths` positions of y (N, C, H, W) with the padding of the positions inside."""
    for axis, padding in ((2, paddings[0]), (3, paddings[1])):
        before, length, after = _split(y, widths, axis)
        for outer in (*range(before), *range(before + length, before + length + after)):
            # With rows first, the columns' copies include the corners.
            edge = y.select(axis, outer)
            if padding == "zeros":
                edge.zero_()
            else:
                edge.copy_(y.select(axis, before + _source(outer - before, length, padding)))


def add_edges_(grad: Tensor, widths: Widths, paddings: Paddings) -> None:
    """Adds the gradient of the padding to that of the positions that it copies: the adjoint of `fill_edges_`.

    Args:
        grad: (N, C, H, W), the gradient of a padded tensor; only the positions inside the padding remain meaningful.
    """
    for axis, padding in ((3, paddings[1]), (2, paddings[0])):
        before, length, after = _split(grad, widths, axis)
        if padding == "zeros":
            continue
        for outer in (*range(before), *range(before + length, before + length + after)):
            grad.select(axis, before + _source(outer - before, length, padding)).add_(grad.select(axis, outer))


def inside(y: Tensor, widths: Widths) -> Tensor:
    """Returns a view of a padded tensor (N, C, H, W) without its padding."""
    top, bottom, left, right = widths
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, widths: Widths, paddings: Paddings) -> Tensor:
        context.widths, context.paddings = widths, paddings
        n, channels, height, width = x.shape
        top, bottom, left, right = widths
        last = x.is_contiguous(memory_format=torch.channels_last)
        y = torch.empty(
            (n, channels, top + height + bottom, left + width + right), dtype=x.dtype, device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )  # fmt: skip
        inside(y, widths).copy_(x)
        fill_edges_(y, widths, paddings)
        return y

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        # Changes the gradient in place; the module `gradients` says why this is allowed.
        add_edges_(grad_output, context.widths, context.paddings)
        return inside(grad_output, context.widths), None, None


def _split(y: Tensor, widths: Widths, axis: int) -> tuple[int, int, int]:
    """Returns the number of positions before, inside and after along an axis of a padded tensor."""
    before, after = widths[2 * axis - 4 : 2 * axis - 2]
    return before, y.shape[axis] - before - after, after


def _source(position: int, length: int, padding: Padding) -> int:
    """Returns the position that the padding at `position`, outside of 0 to `length` − 1, copies."""
    return position % length if padding == "circular" else min(max(position, 0), length - 1)
