"""Tiles: parts of a picture whose contributions to the loss can be computed one by one, exactly.

Each tile has an interior; the interiors partition the picture. The network sees the interior plus a halo as wide as the
receptive radius, so the features of the interior equal those of the whole picture. Tile edges inside the picture are
multiples of the deepest layer's stride; the interior's features depend on padding only at the edge of the picture.

Along an axis that wraps, opposite edges of the picture are neighbors, and halos continue at the opposite edge. The
features are those of the picture repeated without end, at the positions that cover one copy. A network with circular
padding computes them from the picture alone if its length is a multiple of the stride; otherwise even a single tile has
a halo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

Wraps = tuple[bool, bool]
"""Whether opposite edges are neighbors: along the vertical axis, and along the horizontal axis."""
FLAT: Wraps = (False, False)


def positions(length: int, stride: int) -> int:
    """Returns the number of positions of a feature map that cover `length` pixels along an axis that wraps."""
    return -(-length // stride)


@dataclass(frozen=True)
class Span:
    """The extent of a tile along one axis, in pixels of the picture.

    Attributes:
        start, end: the interior is [start, end).
        first, last: the network sees [first, last), the interior and its halo; pixels outside of the picture are those
            of its repetitions.
        length: length of the picture along the axis.
        wraps: whether opposite edges of the picture are neighbors.
    """

    start: int
    end: int
    first: int
    last: int
    length: int
    wraps: bool = False

    def positions(self, stride: int) -> slice:
        """Returns the positions of the interior in a feature map of the whole picture with the given stride."""
        return slice(self.start // stride, self._stop(stride))

    def seen(self, stride: int) -> slice:
        """Returns the positions of the interior in a feature map of this tile with the given stride."""
        offset, stop = self.first // stride, self._stop(stride)
        return slice(self.start // stride - offset, None if stop is None else stop - offset)

    def _stop(self, stride: int) -> int | None:
        """Returns the end of the interior's positions; None for the end of the feature map."""
        if self.end < self.length:
            return self.end // stride
        return positions(self.end, stride) if self.wraps else None

    @property
    def seen_pixels(self) -> int:
        """Number of pixels along this axis that the network sees."""
        return self.last - self.first

    @property
    def is_whole(self) -> bool:
        """Whether interior and network cover exactly the picture."""
        return (self.start, self.end, self.first, self.last) == (0, self.length, 0, self.length)

    @property
    def pieces(self) -> list[slice]:
        """The pixels that the network sees, as consecutive slices of the picture: one slice unless the halo wraps."""
        pieces, at = [], self.first
        while at < self.last:
            begin = at % self.length
            end = min(self.length, begin + self.last - at)
            pieces.append(slice(begin, end))
            at += end - begin
        return pieces


@dataclass(frozen=True)
class Tile:
    """A tile of a picture: its extents along both axes."""

    rows: Span
    columns: Span

    @property
    def is_whole(self) -> bool:
        """Whether the tile is the whole picture, without a halo."""
        return self.rows.is_whole and self.columns.is_whole

    @property
    def seen_pixels(self) -> int:
        """Number of pixels that the network sees."""
        return self.rows.seen_pixels * self.columns.seen_pixels

    def positions(self, stride: int) -> tuple[slice, slice]:
        """Returns the positions (rows, columns) of the interior in a feature map of the whole picture."""
        return self.rows.positions(stride), self.columns.positions(stride)

    def seen(self, stride: int) -> tuple[slice, slice]:
        """Returns the positions (rows, columns) of the interior in a feature map of this tile."""
        return self.rows.seen(stride), self.columns.seen(stride)


@dataclass(frozen=True)
class Partition:
    """The parts in which the gradient of a canvas is computed.

    Attributes:
        tiles: the tiles of the canvas.
        cut: the operation of the network after which there are no tiles; None for tiles at all operations.
    """

    tiles: Sequence[Tile]
    cut: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels."""
        return self.tiles[0].rows.length, self.tiles[0].columns.length

    @property
    def largest(self) -> tuple[int, int]:
        """The largest height and the largest width in pixels that the network sees of a tile."""
        return max(t.rows.seen_pixels for t in self.tiles), max(t.columns.seen_pixels for t in self.tiles)


def whole(height: int, width: int) -> list[Tile]:
    """Returns a single tile, the whole picture of height x width pixels."""
    return [Tile(Span(0, height, 0, height, height), Span(0, width, 0, width, width))]


def deal(tiles: Sequence[Tile], devices: int) -> list[int]:
    """Returns the number of the device of each tile: each tile goes to the device with the fewest pixels so far."""
    loads, numbers = [0] * devices, []
    for tile in tiles:
        numbers.append(loads.index(min(loads)))
        loads[numbers[-1]] += tile.seen_pixels
    return numbers


def cut(
    height: int,
    width: int,
    side: int | None | tuple[int, int],
    *,
    stride: int,
    radius: int,
    least: int = 1,
    wraps: Wraps = FLAT,
    always_halo: bool = False,
) -> list[Tile]:
    """Returns the tiles of a picture, whose interiors have about equal sizes of at most `side` pixels.

    Args:
        height, width: size of the picture in pixels.
        side: maximum side of an interior in pixels, or its maximum height and width; rounded down to a multiple of
            `stride`, but at least `stride`. None for a single tile.
        stride: stride of the deepest feature map, in pixels of the picture.
        radius: receptive radius of the deepest layer, in pixels.
        least: pixels along an axis that the network needs to see.
        wraps: the axes along which opposite edges of the picture are neighbors.
        always_halo: whether a tile has a halo along each axis that wraps, for a network without circular padding.
    """
    halo = -(-radius // stride) * stride
    sides = side if isinstance(side, tuple) else (side, side)
    rows, columns = (
        [
            _wrapped(start, end, length, halo, stride, least, always_halo)
            if wrap
            else _flat(start, end, length, halo, stride, least)
            for start, end in _interiors(length, most, stride)
        ]
        for length, wrap, most in zip((height, width), wraps, sides, strict=True)
    )
    return [Tile(row, column) for row, column in product(rows, columns)]


def _interiors(length: int, side: int | None, stride: int) -> Iterator[tuple[int, int]]:
    # Only the last span can be shorter than the stride. It then contains no position of the deepest layer: harmless.
    cells = max(1, (length + stride if side is None else side) // stride)
    total = -(-length // stride)
    count = -(-total // cells)
    return pairwise(min(length, stride * (total * i // count)) for i in range(count + 1))


def _flat(start: int, end: int, length: int, halo: int, stride: int, least: int) -> Span:
    first, last = max(0, start - halo), min(length, end + halo)
    if last - first < least:
        first = max(0, (last - least) // stride * stride)
        last = max(last, min(length, first + least))
    return Span(start, end, first, last, length)


def _wrapped(start: int, end: int, length: int, halo: int, stride: int, least: int, always: bool) -> Span:
    if (start, end) == (0, length) and length % stride == 0 and not always:
        return Span(start, end, start, end, length, True)
    first, last = start - halo, stride * positions(end, stride) + halo
    return Span(start, end, first, max(last, first + least), length, True)
