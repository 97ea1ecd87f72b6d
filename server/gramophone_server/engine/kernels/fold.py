"""Folds each 2x2 pixels into channels (space-to-depth): a 6x6 convolution of stride 2 becomes a 3x3 convolution."""

from typing import Any

import torch
from torch import Tensor

from .padding import ZEROS, Paddings, Widths, padded

# Padding in pixels: a 6x6 kernel of stride 2 extends two pixels beyond the 2x2 pixels of its position.
_MARGIN = 2


def folded_kernel(kernel: Tensor) -> Tensor:
    """Returns a kernel (C_out, C, 6, 6) as the equivalent kernel (C_out, 4·C, 3, 3) for a folded canvas."""
    outputs, inputs = kernel.shape[:2]
    return kernel.reshape(outputs, inputs, 3, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def folded(canvas: Tensor, offset: Tensor, dtype: torch.dtype, *, paddings: Paddings = ZEROS) -> Tensor:
    """Returns a canvas plus an offset, padded and folded: (N, 12, H // 2 + 2, W // 2 + 2), channels last in memory.

    An unpadded 3x3 convolution of the result has H // 2 x W // 2 positions. If a side is odd, the receptive field of
    the last position covers the last pixel.

    Args:
        canvas: (N, 3, H, W).
        offset: (3, 1, 1), added before padding.
        dtype: type of the result.
        paddings: padding along the vertical and along the horizontal axis.
    """
    height, width = canvas.shape[2:]
    top, bottom, left, right = _MARGIN, _MARGIN - height % 2, _MARGIN, _MARGIN - width % 2
    # Copies are made before the offset is added. Zeros mean 0 after the offset, so `_Fold` adds them.
    rows, columns = (padding != "zeros" for padding in paddings)
    copies = (top * rows, bottom * rows, left * columns, right * columns)
    zeros = (top - copies[0], bottom - copies[1], left - copies[2], right - copies[3])
    folded: Tensor = _Fold.apply(padded(canvas, copies, paddings), offset, zeros, dtype)
    return folded


class _Fold(torch.autograd.Function):
    """The folding with as few passes through memory as possible; torch's operations need three in each direction."""

    @staticmethod
    def forward(context: Any, canvas: Tensor, offset: Tensor, margins: Widths, dtype: torch.dtype) -> Tensor:
        n, channels, height, width = canvas.shape
        top, bottom, left, right = margins
        context.dtype = canvas.dtype
        context.inside = slice(top, top + height), slice(left, left + width)
        padded = canvas.new_zeros(n, channels, height + top + bottom, width + left + right)
        torch.add(canvas, offset, out=padded[:, :, *context.inside])
        last = padded.to(dtype).permute(0, 2, 3, 1).contiguous()
        return _pairs(last).permute(0, 1, 3, 2, 4).flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        n, channels, rows, columns = grad_output.shape
        last = grad_output.new_empty(n, 2 * rows, 2 * columns, channels // 4)
        both = grad_output.permute(0, 2, 3, 1).reshape(n, rows, columns, 2, channels // 2)
        _pairs(last).copy_(both.permute(0, 1, 3, 2, 4))
        inside = last[:, *context.inside].permute(0, 3, 1, 2)
        return inside.to(context.dtype, memory_format=torch.contiguous_format), None, None, None


def _pairs(last: Tensor) -> Tensor:
    """Returns a view of (N, H, W, C) as (N, H / 2, 2, W / 2, 2·C)."""
    n, height, width, channels = last.shape
    return last.view(n, height // 2, 2, width // 2, 2 * channels)
