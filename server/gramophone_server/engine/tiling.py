"""Tiles: parts of a picture whose contributions to the loss can be computed one by one, exactly.

Each tile has an interior; the interiors partition the picture. The network sees the interior plus a halo as wide as the
receptive radius, so the features of the interior equal those of the whole picture. Tile edges inside the picture are
multiples of the deepest layer's stride; the interior's features depend on padding only at the edge of the picture.
"""

from dataclasses import dataclass
from itertools import pairwise, product


@dataclass(frozen=True)
class Span:
    """The extent of a tile along one axis, in pixels of the picture.

    Attributes:
        start, end: the interior is [start, end).
        first, last: the network sees [first, last), the interior and its halo.
        length: length of the picture along the axis.
    """

    start: int
    end: int
    first: int
    last: int
    length: int

    def positions(self, stride: int) -> slice:
        """Returns the positions of the interior in a feature map of the whole picture with the given stride."""
        # At the edge of the picture, pooling drops an incomplete window; the slice ends where the feature map ends.
        return slice(self.start // stride, None if self.end == self.length else self.end // stride)

    def seen(self, stride: int) -> slice:
        """Returns the positions of the interior in a feature map of this tile with the given stride."""
        offset = self.first // stride
        return slice(self.start // stride - offset, None if self.end == self.length else self.end // stride - offset)

    @property
    def seen_pixels(self) -> int:
        """Number of pixels along this axis that the network sees."""
        return self.last - self.first

    @property
    def crop(self) -> slice:
        """Pixels along this axis that the network sees."""
        return slice(self.first, self.last)


@dataclass(frozen=True)
class Tile:
    """A tile of a picture: its extents along both axes."""

    rows: Span
    columns: Span

    @property
    def is_whole(self) -> bool:
        """Whether the tile is the whole picture."""
        return all(span.start == 0 and span.end == span.length for span in (self.rows, self.columns))

    @property
    def crop(self) -> tuple[slice, slice]:
        """Pixels (rows, columns) that the network sees."""
        return self.rows.crop, self.columns.crop

    def positions(self, stride: int) -> tuple[slice, slice]:
        """Returns the positions (rows, columns) of the interior in a feature map of the whole picture."""
        return self.rows.positions(stride), self.columns.positions(stride)

    def seen(self, stride: int) -> tuple[slice, slice]:
        """Returns the positions (rows, columns) of the interior in a feature map of this tile."""
        return self.rows.seen(stride), self.columns.seen(stride)


def whole(height: int, width: int) -> list[Tile]:
    """Returns a single tile, the whole picture of height x width pixels."""
    return [Tile(Span(0, height, 0, height, height), Span(0, width, 0, width, width))]


def cut(height: int, width: int, side: int, *, stride: int, radius: int, least: int = 1) -> list[Tile]:
    """Returns the tiles of a picture, whose interiors have about equal sizes of at most `side` pixels.

    Args:
        height, width: size of the picture in pixels.
        side: maximum side of an interior in pixels; rounded down to a multiple of `stride`, but at least `stride`.
        stride: stride of the deepest feature map, in pixels of the picture.
        radius: receptive radius of the deepest layer, in pixels.
        least: pixels along an axis that the network needs to see.
    """
    rows, columns = (_spans(length, side, stride, radius, least) for length in (height, width))
    return [Tile(row, column) for row, column in product(rows, columns)]


def _spans(length: int, side: int, stride: int, radius: int, least: int) -> list[Span]:
    # Only the last span can be shorter than the stride. It then contains no position of the deepest layer: harmless.
    cells = max(1, side // stride)
    total = -(-length // stride)
    count = -(-total // cells)
    bounds = [min(length, stride * (total * i // count)) for i in range(count + 1)]
    halo = -(-radius // stride) * stride
    spans = []
    for start, end in pairwise(bounds):
        first, last = max(0, start - halo), min(length, end + halo)
        if last - first < least:
            first = max(0, (last - least) // stride * stride)
            last = max(last, min(length, first + least))
        spans.append(Span(start, end, first, last, length))
    return spans
