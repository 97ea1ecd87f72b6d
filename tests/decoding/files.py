"""Helpers for tests of picture files."""

import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from gramophone_server.decoding.header import read_header
from gramophone_server.decoding.pictures import decode


@contextmanager
def opened(data: bytes) -> Iterator[Any]:
    """Opens a temporary file with these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


def decoded(data: bytes, max_pixels: int = 1 << 20) -> Image.Image:
    """Decodes an undamaged picture file; checks that there is no warning."""
    image, warning = salvaged(data, max_pixels)
    assert not warning
    return image


def salvaged(data: bytes, max_pixels: int = 1 << 20) -> tuple[Image.Image, str]:
    """Decodes a picture file that may be damaged, and returns (picture, warning or "").

    Checks that the picture has the size that `read_header` returns.
    """
    with opened(data) as file:
        header = read_header(file, max_pixels)
    with opened(data) as file:
        image, warning = decode(file, max_pixels)
    assert image.size == (header.width, header.height)
    assert image.mode == "RGB"
    return image, warning


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
