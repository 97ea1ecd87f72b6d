"""Pictures whose every 2x2 pixels are one position: a convolution of 6x6 and stride 2 is one of 3x3 over them."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# A kernel of 6x6 at every second pixel reaches two pixels further than those that its position stands for.
_MARGIN = 2


def folded_kernel(kernel: Tensor) -> Tensor:
    """A kernel (C_out, C, 6, 6) as one of (C_out, 4·C, 3, 3)."""
    outputs, inputs = kernel.shape[:2]
    return kernel.reshape(outputs, inputs, 3, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def folded(
    canvas: Tensor, offset: Tensor, dtype: torch.dtype, *, padding: Literal["zeros", "replicate"] = "zeros"
) -> Tensor:
    """A canvas (N, 3, H, W) plus an offset (3, 1, 1), padded, as (N, 12, …, …), channels last in memory.

    A convolution of 3x3 over it, not padded, has H // 2 and W // 2 positions. If a side is odd, its last pixel is seen
    by the position beside it.
    """
    height, width = canvas.shape[2:]
    margins = (_MARGIN, _MARGIN - width % 2, _MARGIN, _MARGIN - height % 2)
    if padding == "replicate":
        canvas, margins = F.pad(canvas, margins, mode="replicate"), (0, 0, 0, 0)
    folded: Tensor = _Fold.apply(canvas, offset, margins, dtype)
    return folded


class _Fold(torch.autograd.Function):
    """The change of the order in as few passes through the memory as there are; torch's own takes three each way."""

    @staticmethod
    def forward(
        context: Any, canvas: Tensor, offset: Tensor, margins: tuple[int, int, int, int], dtype: torch.dtype
    ) -> Tensor:
        n, channels, height, width = canvas.shape
        left, right, top, bottom = margins
        context.dtype = canvas.dtype
        context.inside = slice(top, top + height), slice(left, left + width)
        padded = canvas.new_zeros(n, channels, height + top + bottom, width + left + right)
        torch.add(canvas, offset, out=padded[:, :, *context.inside])
        last = padded.to(dtype).permute(0, 2, 3, 1).contiguous()
        return _pairs(last).permute(0, 1, 3, 2, 4).flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        n, channels, rows, columns = slope.shape
        last = slope.new_empty(n, 2 * rows, 2 * columns, channels // 4)
        both = slope.permute(0, 2, 3, 1).reshape(n, rows, columns, 2, channels // 2)
        _pairs(last).copy_(both.permute(0, 1, 3, 2, 4))
        inside = last[:, *context.inside].permute(0, 3, 1, 2)
        return inside.to(context.dtype, memory_format=torch.contiguous_format), None, None, None


def _pairs(last: Tensor) -> Tensor:
    """(N, H, W, C) as (N, H / 2, 2, W / 2, 2·C)."""
    n, height, width, channels = last.shape
    return last.view(n, height // 2, 2, width // 2, 2 * channels)
