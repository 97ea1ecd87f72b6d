"""3x3 convolutions with a fourth or a fifth of the multiplications: F(4x4, 3x3) and F(6x6, 3x3) of Winograd 1980.

An output tile of m x m positions is Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A (Lavin & Gray 2015, equation 8), where w is the kernel,
d are the (m + 2) x (m + 2) inputs of the tile, and ⊙ is a matrix product over the channels at each of the (m + 2)²
points. In float32 on a CPU this is up to three times as fast as a direct convolution. The rounding error is a few times
larger: about 1e-5 of the largest output.

The transforms along one axis are small matrix products of whole rows of the feature map, which run in the cache at
nearly the speed of large products. The feature map is processed strip by strip, so that it stays there.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..cost import winograd_rows, winograd_turns
from .gradients import masked
from .padding import ZEROS, Paddings, Widths, add_edges_, inside, padded
from .transforms import Pair, transforms

_ONE: Widths = (1, 1, 1, 1)


def transformed(kernel: Tensor, tile: int) -> Tensor:
    """Returns the transform G w Gᵀ of a kernel w (C_out, C_in, 3, 3): ((tile + 2)², C_in, C_out), float32."""
    outputs, inputs = kernel.shape[:2]
    one = transforms(tile).kernel
    # The points of the horizontal axis come first.
    return (torch.kron(one, one).float() @ kernel.float().permute(3, 2, 1, 0).reshape(9, -1)).view(-1, inputs, outputs)


def convolve(x: Tensor, points: Tensor, bias: Tensor, paddings: Paddings = ZEROS) -> Tensor:
    """Returns ReLU of the 3x3 convolution of x padded by one position; differentiable with respect to x only.

    Args:
        x: (N, C_in, H, W), float32.
        points: the `transformed` kernel; its first dimension tells the size of the tiles.
        bias: (C_out,).
        paddings: padding along the vertical and along the horizontal axis.

    Returns:
        (N, C_out, H, W), float32, channels last in memory.
    """
    y: Tensor = _Convolution.apply(x, points, bias, paddings)
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, points: Tensor, bias: Tensor, paddings: Paddings) -> Tensor:
        pair = transforms(_tile(points)).forwards
        if paddings == ZEROS:
            y = _correlated(x, points, pair, 1, bias)
        else:
            y = _correlated(padded(x, _ONE, paddings), points, pair, 0, bias)
        context.paddings = paddings
        context.save_for_backward(y, points)
        return y

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        y, points = context.saved_tensors
        tile, (height, width) = _tile(points), y.shape[2:]
        pair = transforms(tile).backwards
        points = points.transpose(1, 2)
        if winograd_turns(tile, height, width):
            points = points.contiguous()
        if context.paddings == ZEROS:
            return _correlated(grad_output, points, pair, 1, y=y), None, None, None
        gradient = _correlated(grad_output, points, pair, 2, y=y)
        add_edges_(gradient, _ONE, context.paddings)
        return inside(gradient, _ONE), None, None, None


def _tile(points: Tensor) -> int:
    return {36: 4, 64: 6}[len(points)]


def _correlated(
    x: Tensor, points: Tensor, pair: Pair, margin: int, bias: Tensor | None = None, y: Tensor | None = None
) -> Tensor:
    """Returns the correlation of x (N, C_in, H, W) padded by `margin` zeros.

    Args:
        x: the input.
        points: the transformed kernel.
        pair: the other transforms.
        margin: zeros on each side.
        bias: (C_out,); the result is then ReLU of the sum.
        y: of the size of x, output of ReLU: x counts as 0 where y is 0.
    """
    outputs = None if y is None else y.permute(0, 2, 3, 1)
    # Masking copies the input in any case.
    last = _channels_last(x) if outputs is None else x.permute(0, 2, 3, 1)
    n, height, width, _ = last.shape
    result = x.new_empty(n, height + 2 * margin - 2, width + 2 * margin - 2, points.shape[2])
    work = _Work(result, points, pair, margin, width)
    visible = None if y is None else last.new_empty(work.tile * work.count + 2, *last.shape[2:])
    for image in range(n):
        for first in range(0, work.rows, work.count):
            count = min(work.count, work.rows - first)
            begin, end = work.tile * first, work.tile * (first + count)
            top, bottom = max(0, begin - margin), min(height, end - margin + 2)
            seen = last[image, top:bottom]
            if outputs is not None and visible is not None:
                seen = masked(seen, outputs[image, top:bottom], out=visible[: bottom - top])
            _store(work.outputs(seen, begin - margin - top, count), result[image, begin:end], bias)
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

    def __init__(self, y: Tensor, points: Tensor, pair: Pair, margin: int, width: int) -> None:
        self._points, self._pair, self._margin = points, pair, margin
        self.tile, self._size = pair.output.shape
        channels = max(points.shape[1:])
        self.rows, self._columns = -(-y.shape[1] // self.tile), -(-y.shape[2] // self.tile)
        self.count = winograd_rows(self.tile, self.rows, self._columns, channels)
        self._vertical = y.new_empty(self.count, self._size, self.tile * self._columns + 2, points.shape[1])
        # The transform along the vertical axis never writes the padding of the horizontal axis.
        self._vertical[:, :, :margin] = self._vertical[:, :, margin + width :] = 0
        self._inside = self._vertical[:, :, margin : margin + width]
        self._one, self._other = y.new_empty(2, self._size**2 * self.count * self._columns * channels)

    def outputs(self, seen: Tensor, top: int, count: int) -> Tensor:
        """Returns the outputs of `count` rows of tiles: (count, m, columns, m, C_out), valid until the next call.

        Args:
            seen: (H, W, C_in), the inputs of these tiles that are inside of the image.
            top: row of `seen` at which the first tile begins; negative in the padding.
            count: number of rows of tiles.
        """
        m, size, columns = self.tile, self._size, self._columns
        inputs, outputs = self._points.shape[1:]
        self._transform_rows(seen, [top + m * row for row in range(count)])
        patches = _shaped(self._one, size, size, count, columns, inputs)
        patches.copy_(self._vertical[:count].unfold(2, size, m).permute(4, 1, 0, 2, 3))
        d = torch.mm(self._pair.input, patches.view(size, -1), out=_shaped(self._other, size, patches[0].numel()))
        d = torch.bmm(
            d.view(size**2, -1, inputs), self._points, out=_shaped(self._one, size**2, count * columns, outputs)
        )
        d = torch.mm(self._pair.output, d.view(size, -1), out=_shaped(self._other, m, d.numel() // size))
        d = d.view(m, size, -1)
        d = torch.bmm(self._pair.output.expand(m, -1, -1), d, out=_shaped(self._one, m, m, d.shape[2]))
        return d.view(m, m, count, columns, outputs).permute(2, 1, 3, 0, 4)

    def _transform_rows(self, seen: Tensor, tops: list[int]) -> None:
        """Transforms the inputs of rows of tiles, which begin at the rows `tops`, along the vertical axis."""
        size, rows = self._size, seen.view(len(seen), -1)
        whole = [row for row, top in enumerate(tops) if top >= 0 and top + size <= len(rows)]
        if whole:
            begin, end = whole[0], whole[-1] + 1
            patches = rows[tops[begin] :].unfold(0, size, self.tile)[: end - begin].transpose(1, 2)
            onto = self._inside[begin:end].view(end - begin, size, -1)
            torch.bmm(self._pair.input.expand(end - begin, -1, -1), patches, out=onto)
        for row in sorted(set(range(len(tops))).difference(whole)):
            # Rows in the padding are zero: leave them out of the product.
            first, last = max(0, tops[row]), min(len(rows), tops[row] + size)
            part = self._pair.input[:, first - tops[row] : last - tops[row]]
            torch.mm(part, rows[first:last], out=self._inside[row].view(size, -1))


def _shaped(buffer: Tensor, *shape: int) -> Tensor:
    """Returns the beginning of a buffer as a tensor of this shape."""
    return buffer[: math.prod(shape)].view(shape)


def _store(tiles: Tensor, strip: Tensor, bias: Tensor | None) -> None:
    """Writes output tiles (rows, m, columns, m, C) to a strip of the result (H, W, C), which may end within tiles."""
    height, width, _ = strip.shape
    for rows, high in _parts(height, tiles.shape[1]):
        for columns, wide in _parts(width, tiles.shape[3]):
            part = tiles[rows, :high, columns, :wide]
            positions = slice(rows.start * tiles.shape[1], rows.start * tiles.shape[1] + len(part) * high)
            places = slice(columns.start * tiles.shape[3], columns.start * tiles.shape[3] + part.shape[2] * wide)
            onto = strip[positions, places]
            onto = onto.view(len(part), high, part.shape[2], wide, -1)
            if bias is None:
                onto.copy_(part)
            else:
                torch.add(part, bias, out=onto)
    if bias is not None:
        strip.relu_()


def _parts(length: int, tile: int) -> list[tuple[slice, int]]:
    """Returns the whole tiles within a length, and the last tile if it is cut: (tiles, positions of each)."""
    whole, rest = divmod(length, tile)
    parts = [(slice(0, whole), tile), (slice(whole, whole + 1), rest)]
    return [(tiles, positions) for tiles, positions in parts if positions and tiles.stop > tiles.start]
