"""Counts the boxes (ISO 14496-12) of a HEIC or AVIF file before it is decoded."""

import mmap
import struct
from collections.abc import Iterator

from .messages import StructureError

MAX_ITEMS = 2_000
"""Maximum number of items: tiles, thumbnails and metadata. A picture of 50 million pixels has about 200 tiles."""
MAX_BOXES = 20_000
"""Maximum number each of boxes, extents and frames of a file."""
# Bytes by which the extents of all items may exceed the size of the file in total.
_SLACK = 64 << 10
# Levels of nested boxes that are read.
_MAX_DEPTH = 8
# Boxes that contain boxes: bytes of content before the first inner box.
_CONTAINERS = {
    b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0,
}  # fmt: skip
# Boxes with a count of entries: offset of the count in the content.
_COUNTS = {b"stsz": 8, b"stz2": 8, b"stts": 4, b"stsc": 4, b"stco": 4, b"co64": 4, b"ctts": 4, b"stss": 4}


def check_boxes(data: mmap.mmap) -> None:
    """Checks the number of boxes, items, extents and frames of a file.

    Raises:
        StructureError: the file has far more parts than a normal file, or items that share bytes.
    """
    for number, (kind, at, end) in enumerate(_boxes(data, 0, len(data), 0)):
        if number > MAX_BOXES:
            raise StructureError(f"has more than {MAX_BOXES:,} boxes; save it again")
        if kind == b"iinf":
            _check_items(data, at, end)
        elif kind == b"iloc":
            _check_extents(data, at, end)
        elif kind in _COUNTS and _number(data, at + _COUNTS[kind], 4, end) > MAX_BOXES:
            raise StructureError(f"has more than {MAX_BOXES:,} frames; save a single picture")


def _boxes(data: mmap.mmap, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, start of the content, end of the content) of each box; an outer box before its inner boxes."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            size, start = _number(data, start, 8, end), start + 8
        # Size 0 means: up to the end of the enclosing box.
        stop = min(end, at + size) if size else end
        if stop < start:
            return
        yield kind, start, stop
        if kind in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _boxes(data, start + _CONTAINERS[kind], stop, depth + 1)
        at = stop


def _check_items(data: mmap.mmap, at: int, end: int) -> None:
    if _number(data, at + 4, 2 if data[at] == 0 else 4, end) > MAX_ITEMS:
        raise StructureError(f"has more than {MAX_ITEMS:,} items; save it as a JPEG or a PNG")


def _check_extents(data: mmap.mmap, at: int, end: int) -> None:
    """Checks the number and the total size of the extents in an item location box."""
    if end - at < 8:
        return
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    offset, length, base = sizes >> 4, sizes & 15, more >> 4
    index = more & 15 if version else 0
    wide = 2 if version < 2 else 4
    count, at = _number(data, at + 6, wide, end), at + 6 + wide
    if count > MAX_ITEMS:
        raise StructureError(f"has more than {MAX_ITEMS:,} items; save it as a JPEG or a PNG")
    total = extents = 0
    for _ in range(count):
        at += wide + (2 if version else 0) + 2 + base
        here, at = _number(data, at, 2, end), at + 2
        extents += here
        if extents > MAX_BOXES:
            raise StructureError(f"has more than {MAX_BOXES:,} extents; save it as a JPEG or a PNG")
        for _ in range(here):
            size = _number(data, at + index + offset, length, end) if length else 0
            total += size or len(data)
            at += index + offset + length
    if total > len(data) + _SLACK:
        raise StructureError("has items that share bytes; save it as a JPEG or a PNG")


def _number(data: mmap.mmap, at: int, size: int, end: int) -> int:
    """Returns the big-endian number of `size` bytes at an offset; 0 if it would reach beyond `end`."""
    return int.from_bytes(data[at : at + size], "big") if at + size <= end else 0
