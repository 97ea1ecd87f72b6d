"""3x3 convolutions with a quarter of the multiplications: F(4x4, 3x3) of Winograd 1980, as in Lavin & Gray 2015.

An output tile of 4x4 positions is Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A, where w is the kernel, d are the 6x6 inputs of the tile,
and ⊙ is a matrix product over the channels at each of the 36 points. In float32 on a CPU, with about a hundred or more
channels, this is up to twice as fast as a direct convolution. The rounding error is a few times larger: about 1e-5 of
the largest output.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cost import WINOGRAD_STRIP
from .gradients import masked, masked_
from .padding import ZEROS, Paddings, Widths, add_edges_, fill_edges_

# The transforms of Lavin & Gray (equation 10 and the following ones), for the points 0, ±1, ±2 and infinity.
_BT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_AT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _both_axes(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """Returns the transform along both axes as a single matrix, the Kronecker product with itself."""
    one = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(one, one).float()


_INPUT, _KERNEL, _OUTPUT = _both_axes(_BT), _both_axes(_G), _both_axes(_AT)
_ONE: Widths = (1, 1, 1, 1)


def transformed(kernel: Tensor) -> Tensor:
    """Returns the transform G w Gᵀ of a kernel w (C_out, C_in, 3, 3): (36, C_in, C_out), float32."""
    outputs, inputs = kernel.shape[:2]
    return (_KERNEL @ kernel.float().permute(2, 3, 1, 0).reshape(9, -1)).view(36, inputs, outputs)


def convolve(x: Tensor, points: Tensor, bias: Tensor, paddings: Paddings = ZEROS) -> Tensor:
    """Returns ReLU of the 3x3 convolution of x padded by one position; differentiable with respect to x only.

    Args:
        x: (N, C_in, H, W), float32.
        points: (36, C_in, C_out), the `transformed` kernel.
        bias: (C_out,).
        paddings: padding along the vertical and along the horizontal axis.

    Returns:
        (N, C_out, H, W), float32.
    """
    y: Tensor = _Convolution.apply(x, points, bias, paddings)
    return y


class _Convolution(torch.autograd.Function):
    """The convolution, and its adjoint as backward pass, which applies the transposed transforms in reverse order."""

    @staticmethod
    def forward(context: Any, x: Tensor, points: Tensor, bias: Tensor, paddings: Paddings) -> Tensor:
        n, _, height, width = x.shape
        outputs = points.shape[2]
        rows, columns = -(-height // 4), -(-width // 4)
        # Allocate the result before the temporary tensors, so that freeing those leaves no gap in the heap below it.
        y = x.new_empty(n, 4 * rows, 4 * columns, outputs)
        # Channels last, padded by one position, and further to whole tiles.
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 4 * columns - width + 1, 1, 4 * rows - height + 1))
        if paddings != ZEROS:
            fill_edges_(_around(padded, height, width), _ONE, paddings)
        for image, first, count in _strips(n, rows, columns, points):
            patches = padded[image, 4 * first : 4 * (first + count) + 2].unfold(0, 6, 4).unfold(1, 6, 4)
            d = _INPUT @ patches.permute(3, 4, 0, 1, 2).reshape(36, -1)
            m = torch.bmm(d.view(36, count * columns, -1), points)
            tiles = (_OUTPUT @ m.view(36, -1)).view(4, 4, count, columns, outputs)
            strip = y[image, 4 * first : 4 * (first + count)]
            torch.add(tiles.permute(2, 0, 3, 1, 4), bias, out=strip.view(count, 4, columns, 4, outputs))
            strip.relu_()
        y = y[:, :height, :width].permute(0, 3, 1, 2)
        context.paddings = paddings
        context.save_for_backward(y, points)
        return y

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        y, points = context.saved_tensors
        n, outputs, height, width = y.shape
        inputs = points.shape[1]
        rows, columns = -(-height // 4), -(-width // 4)
        # The gradient before ReLU, channels last, padded to whole tiles.
        if height % 4 == width % 4 == 0:
            whole = masked_(grad_output, y).permute(0, 2, 3, 1).contiguous()
        else:
            whole = grad_output.new_empty(n, 4 * rows, 4 * columns, outputs)
            whole[:, height:] = 0
            whole[:, :, width:] = 0
            masked(grad_output, y, out=whole[:, :height, :width].permute(0, 3, 1, 2))
        # Sum 6x6 patches at every fourth position, which overlap by two positions. The upper left 4x4 of each patch
        # never overlap and are written. The rest is added, also to the strip below: so process the lowest strip first.
        x = grad_output.new_empty(n, 4 * rows + 4, 4 * columns + 4, inputs)
        x[:, 4 * rows :] = 0
        x[:, :, 4 * columns :] = 0
        for image, first, count in reversed(_strips(n, rows, columns, points)):
            tiles = whole[image, 4 * first : 4 * (first + count)].view(count, 4, columns, 4, outputs)
            m = _OUTPUT.T @ tiles.permute(1, 3, 0, 2, 4).reshape(16, -1)
            d = torch.bmm(m.view(36, count * columns, outputs), points.transpose(1, 2))
            patches = (_INPUT.T @ d.view(36, -1)).view(6, 6, count, columns, inputs).permute(2, 0, 3, 1, 4)
            for vertical, high in ((0, 4), (4, 2)):
                for horizontal, wide in ((0, 4), (4, 2)):
                    top, left = 4 * first + vertical, horizontal
                    onto = x[image, top : top + 4 * count, left : left + 4 * columns]
                    onto = onto.view(count, 4, columns, 4, inputs)[:, :high, :, :wide]
                    part = patches[:, vertical : vertical + high, :, horizontal : horizontal + wide]
                    if vertical == horizontal == 0:
                        onto.copy_(part)
                    else:
                        onto += part
        if context.paddings != ZEROS:
            add_edges_(_around(x, height, width), _ONE, context.paddings)
        return x[:, 1 : height + 1, 1 : width + 1].permute(0, 3, 1, 2), None, None, None


def _around(last: Tensor, height: int, width: int) -> Tensor:
    """Returns (N, C, height + 2, width + 2), the feature map and one position around it, of (N, H', W', C)."""
    return last[:, : height + 2, : width + 2].permute(0, 3, 1, 2)


def _strips(n: int, rows: int, columns: int, points: Tensor) -> list[tuple[int, int, int]]:
    """Returns (image, first row of tiles, number of rows of tiles) of each strip."""
    a_row = 36 * 4 * columns * max(points.shape[1:])
    height = max(1, min(rows, WINOGRAD_STRIP // a_row))
    return [(image, first, min(height, rows - first)) for image in range(n) for first in range(0, rows, height)]
