"""Counts the parts of a picture file before it is decoded: parts of a few bytes can cost a decoder much time."""

import mmap
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader

from .boxes import check_boxes
from .messages import StructureError

MAX_SIDE = 65_535
"""Maximum number of pixels along a side, as in JPEG: each row of a picture costs some memory."""
MAX_SCANS = 100
"""Maximum number of scans of a JPEG: each costs a pass over the whole picture. Progressive files have about ten."""
MAX_PARTS = 20_000
"""Maximum number of segments, chunks or frames of a file."""
MAX_PADDING = 64 << 10
"""Maximum number of bytes between the segments of a JPEG."""

# The next marker after entropy-coded data, in which FF is followed by a stuffed zero or a restart marker's code.
# Quantifiers are possessive, so that matching takes linear time.
_MARKER = re.compile(rb"(?:[^\xff]++|\xff++[\x00\xd0-\xd7])*+(\xff++)(.)", re.DOTALL)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_PNG = b"\x89PNG\r\n\x1a\n"
# Compression codes of run-length coded BMPs, and an upper bound of pixels per byte: a run of 255 takes two bytes.
_RLE, _MAX_RUN = (1, 2), 255


def check_structure(file: BufferedReader) -> bool:
    """Checks the structure of a picture file.

    Returns:
        whether the end of the file is there; True for formats that are not checked.

    Raises:
        StructureError: the file has far more parts than a normal file.
    """
    with _memory_map(file) as data:
        if data[4:8] == b"ftyp":
            check_boxes(data)
            return True
        for magic, check in _CHECKS:
            if data[: len(magic)] == magic:
                return check(data)
    return True


def trailing_exif(file: BufferedReader) -> bytes | None:
    """Returns the EXIF data of a PNG, even if they follow the pixels; None if there are none."""
    with _memory_map(file) as data:
        for kind, start, size in _chunks(data):
            if kind == b"eXIf":
                return data[start : start + min(size, MAX_PADDING)]
    return None


@contextmanager
def _memory_map(file: BufferedReader) -> Iterator[mmap.mmap]:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _check_jpeg(data: mmap.mmap) -> bool:
    at, parts, scans, padding = 2, 0, 0, 0
    while (found := _MARKER.match(data, at)) is not None:
        marker = found[2][0]
        # Entropy-coded data may precede a marker after the first scan; before it, such bytes count as padding.
        padding += len(found[1]) - 1 + (0 if scans else found.start(1) - at)
        parts += 1
        scans += marker == _SOS
        if padding > MAX_PADDING:
            raise StructureError(f"has more than {MAX_PADDING:,} bytes of padding between its parts; save it again")
        if scans > MAX_SCANS:
            raise StructureError(f"has more than {MAX_SCANS} scans; save it as a baseline JPEG")
        if parts > MAX_PARTS:
            raise StructureError(f"has more than {MAX_PARTS:,} segments; save it again")
        if marker == _EOI:
            return True
        at = found.end()
        if marker not in (_SOI, _TEM):
            size = data[at : at + 2]
            at += struct.unpack(">H", size)[0] if len(size) == 2 else 2
    return False


def _check_png(data: mmap.mmap) -> bool:
    has_end = False
    for number, (kind, _, _) in enumerate(_chunks(data)):
        has_end = kind == b"IEND"
        if number > MAX_PARTS:
            raise StructureError(f"has more than {MAX_PARTS:,} chunks; save it again")
    return has_end


def _check_webp(data: mmap.mmap) -> bool:
    if len(data) < 12:
        return False
    at, number, end = 12, 0, min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    while at + 8 <= end:
        at += 8 + (size := struct.unpack_from("<I", data, at + 4)[0]) + size % 2
        number += 1
        if number > MAX_PARTS:
            raise StructureError(f"has more than {MAX_PARTS:,} chunks; save a single picture")
    return at <= len(data)


def _check_bmp(data: mmap.mmap) -> bool:
    if len(data) < 34 or struct.unpack_from("<I", data, 14)[0] < 40:
        return True
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in _RLE and abs(width * height) > len(data) * _MAX_RUN:
        raise StructureError(f"is {width}x{abs(height)}, but has run-length codes for far fewer pixels; save it again")
    return True


def _chunks(data: mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, start of the content, size of the content) of each chunk of a PNG."""
    at = len(_PNG)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, size
        if kind == b"IEND":
            return  # Ignore data after the picture.
        at += 12 + size


_CHECKS: tuple[tuple[bytes, Callable[[mmap.mmap], bool]], ...] = (
    (b"\xff\xd8", _check_jpeg),
    (_PNG, _check_png),
    (b"RIFF", _check_webp),
    (b"BM", _check_bmp),
)
