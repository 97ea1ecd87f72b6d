"""3x3 convolutions with 2.25 to 5 times fewer multiplications: F(2x2, 3x3) to F(6x6, 3x3) of Winograd 1980.

An output tile of m x m positions is Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A (Lavin & Gray 2015, equation 8), where w is the kernel,
d are the (m + 2) x (m + 2) inputs of the tile, and ⊙ is a matrix product over the channels at each of the (m + 2)²
points. In float32 on a CPU this is up to three times as fast as a direct convolution. The rounding error is a few times
larger: about 1e-5 of the largest output.

The transforms along one axis are small matrix products of whole rows of the feature map, which run in the cache at
nearly the speed of large products. The feature map is processed strip by strip, so that it stays there.

Large tiles need fewer multiplications, but more transformed weights: on a small feature map, to read these takes longer
than to multiply with them, and small tiles are faster.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..cost import winograd_keeps_transposed, winograd_rows
from .gradients import masked
from .padding import ZEROS, Paddings, Widths, add_edges_, inside, padded
from .transforms import Pair, transforms

_ONE: Widths = (1, 1, 1, 1)


class Kernel:
    """The transform G w Gᵀ of a kernel w (C_out, C_in, 3, 3), for tiles of one size and of all smaller sizes.

    Attributes:
        tile: side m of the largest output tile.
        points: (m + 2, m + 2, C_in, C_out), float32; the points of the horizontal axis come first.
    """

    def __init__(self, kernel: Tensor, tile: int) -> None:
        outputs, inputs = kernel.shape[:2]
        one = transforms(tile).kernel
        points = torch.kron(one, one).float() @ kernel.float().permute(3, 2, 1, 0).reshape(9, -1)
        self.tile, self.points = tile, points.view(tile + 2, tile + 2, inputs, outputs)
        self._transposed: Tensor | None = None

    def of(self, tile: int) -> Tensor:
        """Returns the points of an output tile of m x m positions, (m + 2, m + 2, C_in, C_out), as a view."""
        return self.points[: tile + 2, : tile + 2]

    def transposed(self, tile: int, height: int, width: int) -> Tensor:
        """Returns the points of a tile with inputs and outputs exchanged, (m + 2, m + 2, C_out, C_in), contiguous.

        Products with a transposed matrix take up to a third more time. While feature maps are so small that the copy
        takes as long as the product, it is kept.

        Args:
            tile: side m of an output tile.
            height, width: positions of the feature map.
        """
        points = self._transposed
        if points is None or len(points) != tile + 2:
            points = self.of(tile).transpose(2, 3).contiguous()
        self._transposed = points if winograd_keeps_transposed(tile, height, width) else None
        return points


def convolve(x: Tensor, kernel: Kernel, bias: Tensor, paddings: Paddings = ZEROS, *, tile: int = 0) -> Tensor:
    """Returns ReLU of the 3x3 convolution of x padded by one position; differentiable with respect to x only.

    Args:
        x: (N, C_in, H, W), float32.
        kernel: the transformed kernel.
        bias: (C_out,).
        paddings: padding along the vertical and along the horizontal axis.
        tile: side of an output tile: 2, 4 or 6, at most that of the kernel; 0 for that of the kernel.

    Returns:
        (N, C_out, H, W), float32, channels last in memory.
    """
    y: Tensor = _Convolution.apply(x, kernel, bias, paddings, tile or kernel.tile)
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Kernel, bias: Tensor, paddings: Paddings, tile: int) -> Tensor:
        pair = transforms(tile).forwards
        if paddings == ZEROS:
            y = _correlated(x, kernel.of(tile), pair, 1, bias)
        else:
            y = _correlated(padded(x, _ONE, paddings), kernel.of(tile), pair, 0, bias)
        context.kernel, context.paddings, context.tile = kernel, paddings, tile
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        (y,) = context.saved_tensors
        pair = transforms(context.tile).backwards
        points = context.kernel.transposed(context.tile, *y.shape[2:])
        if context.paddings == ZEROS:
            return _correlated(grad_output, points, pair, 1, y=y), None, None, None, None
        gradient = _correlated(grad_output, points, pair, 2, y=y)
        add_edges_(gradient, _ONE, context.paddings)
        return inside(gradient, _ONE), None, None, None, None


def _correlated(
    x: Tensor, points: Tensor, pair: Pair, margin: int, bias: Tensor | None = None, y: Tensor | None = None
) -> Tensor:
    """Returns the correlation of x (N, C_in, H, W) padded by `margin` zeros.

    Args:
        x: the input.
        points: the transformed kernel, (m + 2, m + 2, C_in, C_out).
        pair: the other transforms.
        margin: zeros on each side.
        bias: (C_out,); the result is then ReLU of the sum.
        y: of the size of x, output of ReLU: x counts as 0 where y is 0.
    """
    outputs = None if y is None else y.permute(0, 2, 3, 1)
    # Masking copies the input in any case.
    last = _channels_last(x) if outputs is None else x.permute(0, 2, 3, 1)
    n, height, width, _ = last.shape
    result = x.new_empty(n, height + 2 * margin - 2, width + 2 * margin - 2, points.shape[3])
    work = _Work(result, points, pair, margin, width, bias)
    visible = None if y is None else last.new_empty(work.tile * work.count + 2, *last.shape[2:])
    for image in range(n):
        for first in range(0, work.rows, work.count):
            count = min(work.count, work.rows - first)
            begin, end = work.tile * first, work.tile * (first + count)
            top, bottom = max(0, begin - margin), min(height, end - margin + 2)
            seen = last[image, top:bottom]
            if outputs is not None and visible is not None:
                seen = masked(seen, outputs[image, top:bottom], out=visible[: bottom - top])
            work.convolve(seen, begin - margin - top, result[image, begin:end])
    return result.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    """Returns x (N, C, H, W) as (N, H, W, C) with contiguous rows."""
    last = x.permute(0, 2, 3, 1)
    return last if last.stride(3) == 1 and last.stride(2) == last.shape[3] else last.contiguous()


class _Work:
    """The temporary tensors of a convolution, which every strip uses again.

    Attributes:
        tile: side of an output tile, m.
        rows: rows of tiles of an image.
        count: rows of tiles of a strip.
    """

    def __init__(self, y: Tensor, points: Tensor, pair: Pair, margin: int, width: int, bias: Tensor | None) -> None:
        self._points, self._pair, self._bias = points, pair, bias
        self.tile, size = pair.output.shape
        channels = max(points.shape[2:])
        self.rows, self._columns = -(-y.shape[1] // self.tile), -(-y.shape[2] // self.tile)
        self.count = winograd_rows(self.tile, self.rows, self._columns, channels)
        self._vertical = y.new_empty(self.count, size, self.tile * self._columns + 2, points.shape[2])
        # The transform along the vertical axis never writes the padding of the horizontal axis.
        self._vertical[:, :, :margin] = self._vertical[:, :, margin + width :] = 0
        self._inside = self._vertical[:, :, margin : margin + width]
        self._one, self._other = y.new_empty(2, size**2 * self.count * self._columns * channels)
        self._strips: dict[int, _Strip] = {}

    def convolve(self, seen: Tensor, top: int, onto: Tensor) -> None:
        """Computes a strip of the result.

        Args:
            seen: (H, W, C_in), the inputs of the strip's tiles that are inside of the image.
            top: row of `seen` at which the first tile begins; negative in the padding.
            onto: (H', W', C_out), the strip of the result, which may end within tiles.
        """
        height = len(onto)
        if height not in self._strips:
            count = -(-height // self.tile)
            tensors = self._vertical[:count], self._inside[:count], self._one, self._other
            self._strips[height] = _Strip(*tensors, self._points, self._pair, onto.shape)
        strip = self._strips[height]
        strip.transform_rows(seen, top)
        strip.multiply(self._bias)
        strip.store(onto, relu=self._bias is not None)


class _Strip:
    """The views of the temporary tensors that strips of one height need; to create them takes longer than to use them.

    Args:
        vertical: (count, m + 2, columns of inputs, C_in), for the inputs after the transform along the vertical axis.
        inside: the part of it that is inside of the image.
        one, other: buffers.
        points: the transformed kernel, (m + 2, m + 2, C_in, C_out).
        pair: the other transforms.
        shape: of a strip of the result, (H, W, C_out).
    """

    def __init__(
        self,
        vertical: Tensor,
        inside: Tensor,
        one: Tensor,
        other: Tensor,
        points: Tensor,
        pair: Pair,
        shape: torch.Size,
    ) -> None:
        m, size = pair.output.shape
        count, inputs, outputs = len(vertical), *points.shape[2:]
        self._inside, self._pair = list(inside.flatten(2)), pair
        self._outputs = pair.output.expand(m, -1, -1)
        # In the order of the computation, each tensor is computed from the one before.
        self._windows = vertical.unfold(2, size, m).permute(4, 1, 0, 2, 3)
        self._patches = _shaped(one, *self._windows.shape)
        self._rows = self._patches.view(size, -1)
        self._transformed = _shaped(other, *self._rows.shape)
        factors = self._transformed.view(size**2, -1, inputs)
        self._products = _shaped(one, size**2, factors.shape[1], outputs)
        # The points of a smaller tile than the kernel's are not evenly spaced in memory, but those of a line are.
        batches = points.flatten(0, 1)[None] if points.is_contiguous() else points
        parts, products = factors.chunk(len(batches)), self._products.chunk(len(batches))
        self._batches = list(zip(parts, batches, products, strict=True))
        # The value at the point (1, 1) is part of each output with the factor 1.
        self._ones = self._products[size + 1]
        self._lines = self._products.view(size, -1)
        self._across = _shaped(other, m, self._lines.shape[1])
        self._halves = self._across.view(m, size, -1)
        self._tiles = _shaped(one, m, m, self._halves.shape[2])
        tiles = self._tiles.view(m, m, count, -1, outputs).permute(2, 1, 3, 0, 4)
        self._parts = [
            (tiles[rows, :high, columns, :wide], (rows.start * shape[1] + columns.start) * m * outputs)
            for rows, high in _parts(shape[0], m)
            for columns, wide in _parts(shape[1], m)
        ]
        line = shape[1] * outputs
        self._strides = m * line, line, m * outputs, outputs, 1

    def transform_rows(self, seen: Tensor, top: int) -> None:
        """Transforms the inputs of the rows of tiles along the vertical axis.

        Args:
            seen: (H, W, C_in), the inputs inside of the image.
            top: row of `seen` at which the first tile begins; negative in the padding.
        """
        (m, size), length = self._pair.output.shape, len(seen)
        for row, onto in enumerate(self._inside):
            begin = top + m * row
            # Rows in the padding are zero: leave them out of the product.
            first, last = max(0, begin), min(length, begin + size)
            whole = last - first == size
            transform = self._pair.input if whole else self._pair.input[:, first - begin : last - begin]
            torch.mm(transform, seen[first:last].view(last - first, -1), out=onto)

    def multiply(self, bias: Tensor | None) -> None:
        """Computes the outputs of the tiles, and adds the bias (C_out,)."""
        self._patches.copy_(self._windows)
        torch.mm(self._pair.input, self._rows, out=self._transformed)
        for factors, points, products in self._batches:
            torch.bmm(factors, points, out=products)
        if bias is not None:
            self._ones.add_(bias)
        torch.mm(self._pair.output, self._lines, out=self._across)
        torch.bmm(self._outputs, self._halves, out=self._tiles)

    def store(self, onto: Tensor, *, relu: bool) -> None:
        """Writes the outputs, or ReLU of them, to a strip of the result (H, W, C_out)."""
        begin = onto.storage_offset()
        for part, offset in self._parts:
            positions = onto.as_strided(part.shape, self._strides, begin + offset)
            if relu:
                torch.clamp_min(part, 0, out=positions)
            else:
                positions.copy_(part)


def _shaped(buffer: Tensor, *shape: int) -> Tensor:
    """Returns the beginning of a buffer as a tensor of this shape."""
    return buffer[: math.prod(shape)].view(shape)


def _parts(length: int, tile: int) -> list[tuple[slice, int]]:
    """Returns the whole tiles within a length, and the last tile if it is cut: (tiles, positions of each)."""
    whole, rest = divmod(length, tile)
    parts = [(slice(0, whole), tile), (slice(whole, whole + 1), rest)]
    return [(tiles, positions) for tiles, positions in parts if positions and tiles.stop > tiles.start]
