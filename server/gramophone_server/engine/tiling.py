"""Tiles: a picture cut up so that each part's share of the loss can be computed alone, exactly.

A tile owns its interior; the interiors partition the picture. The network sees the interior and a halo as wide as its
receptive radius, so that features of the interior are those of the whole picture. Edges inside the picture lie on the
grid of the deepest pooling; padding is seen only at the picture's own edge.
"""

from dataclasses import dataclass
from itertools import pairwise, product


@dataclass(frozen=True)
class Span:
    """A tile along one axis of `length` pixels: its interior is [start, end), and the network sees [first, last)."""

    start: int
    end: int
    first: int
    last: int
    length: int

    def positions(self, stride: int) -> slice:
        """The interior's positions in a feature map of the whole picture, of that stride."""
        # At the picture's edge pooling drops an incomplete window, and the slice ends with the feature map.
        return slice(self.start // stride, None if self.end == self.length else self.end // stride)

    def seen(self, stride: int) -> slice:
        """The interior's positions in a feature map of what the network sees."""
        offset = self.first // stride
        return slice(self.start // stride - offset, None if self.end == self.length else self.end // stride - offset)

    @property
    def seen_pixels(self) -> int:
        """How many pixels the network sees."""
        return self.last - self.first

    @property
    def crop(self) -> slice:
        """The pixels that the network sees."""
        return slice(self.first, self.last)


@dataclass(frozen=True)
class Tile:
    """A tile of a picture."""

    rows: Span
    columns: Span

    @property
    def is_whole(self) -> bool:
        """Whether it is the picture."""
        return all(span.start == 0 and span.end == span.length for span in (self.rows, self.columns))

    @property
    def crop(self) -> tuple[slice, slice]:
        """The pixels (rows, columns) that the network sees."""
        return self.rows.crop, self.columns.crop

    def positions(self, stride: int) -> tuple[slice, slice]:
        """The interior's positions in a feature map of the whole picture."""
        return self.rows.positions(stride), self.columns.positions(stride)

    def seen(self, stride: int) -> tuple[slice, slice]:
        """The interior's positions in a feature map of what the network sees."""
        return self.rows.seen(stride), self.columns.seen(stride)


def whole(height: int, width: int) -> list[Tile]:
    """One tile, the whole picture."""
    return [Tile(Span(0, height, 0, height, height), Span(0, width, 0, width, width))]


def cut(height: int, width: int, side: int, *, stride: int, radius: int) -> list[Tile]:
    """Tiles of a picture, whose interiors are at most `side` pixels a side and about equal.

    Args:
        side: most pixels of an interior along each axis; rounded down to the grid.
        stride: pixels of the picture per position of the deepest feature map.
        radius: receptive radius of the deepest layer, in pixels.
    """
    rows, columns = (_spans(length, side, stride, radius) for length in (height, width))
    return [Tile(row, column) for row, column in product(rows, columns)]


def _spans(length: int, side: int, stride: int, radius: int) -> list[Span]:
    # The last span alone may be shorter than the grid, and would then own no position of the deepest layer: harmless.
    cells = max(1, side // stride)
    total = -(-length // stride)
    count = -(-total // cells)
    bounds = [min(length, stride * (total * i // count)) for i in range(count + 1)]
    halo = -(-radius // stride) * stride
    spans = []
    for start, end in pairwise(bounds):
        spans.append(Span(start, end, max(0, start - halo), min(length, end + halo), length))
    return spans
