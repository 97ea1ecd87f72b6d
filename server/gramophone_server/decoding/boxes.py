"""Counts the parts of a HEIC or AVIF file before anything decodes it; its boxes are those of ISO 14496-12."""

import mmap
import struct
from collections.abc import Iterator

from .messages import StructureError

MAX_ITEMS = 2_000
"""Most items of a file: tiles, thumbnails and metadata. A picture of 50 million pixels has about 200 tiles."""
MAX_BOXES = 20_000
"""Most boxes, extents or frames of a file."""
# Bytes that items may have in common beyond the size of the file.
_SLACK = 64 << 10
_DEEPEST = 8
# Boxes of boxes, and the bytes of each before its first one.
_CONTAINERS = {
    b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0,
}  # fmt: skip
# Boxes that begin with a count of what is in them, and where it is.
_COUNTS = {b"stsz": 8, b"stz2": 8, b"stts": 4, b"stsc": 4, b"stco": 4, b"co64": 4, b"ctts": 4, b"stss": 4}


def check_boxes(data: mmap.mmap) -> None:
    """Checks how a file of boxes is built.

    Raises:
        StructureError: it has more parts than any honest file, or parts that share their bytes.
    """
    for number, (kind, at, end) in enumerate(_boxes(data, 0, len(data), 0)):
        if number > MAX_BOXES:
            raise StructureError(f"has more than {MAX_BOXES:,} boxes; save it anew")
        if kind == b"iinf":
            _check_items(data, at, end)
        elif kind == b"iloc":
            _check_extents(data, at, end)
        elif kind in _COUNTS and _number(data, at + _COUNTS[kind], 4, end) > MAX_BOXES:
            raise StructureError(f"has more than {MAX_BOXES:,} frames; save one picture of it")


def _boxes(data: mmap.mmap, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of a file, outer ones before inner ones: kind, where the content begins, where it ends."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            size, start = _number(data, start, 8, end), start + 8
        # A box of size 0 goes to the end.
        stop = min(end, at + size) if size else end
        if stop < start:
            return
        yield kind, start, stop
        if kind in _CONTAINERS and depth < _DEEPEST:
            yield from _boxes(data, start + _CONTAINERS[kind], stop, depth + 1)
        at = stop


def _check_items(data: mmap.mmap, at: int, end: int) -> None:
    if _number(data, at + 4, 2 if data[at] == 0 else 4, end) > MAX_ITEMS:
        raise StructureError(f"has more than {MAX_ITEMS:,} items; save it as a JPEG or a PNG")


def _check_extents(data: mmap.mmap, at: int, end: int) -> None:
    """Adds up what an item location box refers to."""
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
        raise StructureError("has items that share their bytes; save it as a JPEG or a PNG")


def _number(data: mmap.mmap, at: int, size: int, end: int) -> int:
    """A number of so many bytes; 0 beyond the end."""
    return int.from_bytes(data[at : at + size], "big") if at + size <= end else 0
