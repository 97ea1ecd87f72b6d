"""Reads damaged picture files as browsers do: the rows that can be decoded, and gray for the rest."""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader

from PIL import Image, ImageFile

from .messages import PictureError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Formats whose damaged files are read."""
DAMAGE = (OSError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)
"""Errors of Pillow for a damaged file. Hostile files raise other errors."""
TRUNCATED = "is truncated"
# Gray by mode.
_GRAY: dict[str, int | tuple[int, ...]] = {
    "1": 255, "L": 128, "LA": (128, 255), "RGB": (128,) * 3, "RGBA": (128, 128, 128, 255), "CMYK": (0, 0, 0, 127),
    "YCbCr": (128,) * 3, "I;16": 128 * 257,
}  # fmt: skip
# Pixels that are compared at once.
_STRIP = 1 << 18
# Side of a JPEG's largest block (MCU) in pixels.
_BLOCK = 16
# Maximum number of missing bytes of a WebP.
_MAX_MISSING = 32 << 20
# Bytes that replace the missing ones. The decoder accepts the first after nearly any data, and one of the others.
_PADDING, _OTHER_PADDINGS = 0x00, (0x80, 0x10, 0x01)


@dataclass(frozen=True)
class Opened:
    """A picture file that has been opened but not decoded.

    Attributes:
        damaged: whether Pillow cannot read the file without changed settings.
        truncated: the bytes of a truncated WebP; empty for all other files.
        has_end: whether the end of the file is there; True for formats that are not checked.
    """

    image: Image.Image
    damaged: bool = False
    truncated: bytes = b""
    has_end: bool = True


def load(opened: Opened, reason: str) -> str:
    """Loads a damaged image as far as it can be decoded; the rest becomes gray.

    Args:
        reason: Pillow's error at decoding; empty if Pillow failed to open the file.

    Returns:
        the defect, as a sentence that begins with a verb.

    Raises:
        PictureError: nothing of it can be read.
    """
    image = opened.image
    filled = _fill_gray(image)
    with _lenient():
        image.load()
        if opened.truncated:
            _clear_padded(image, opened.truncated)
    defect = TRUNCATED if opened.truncated or "truncated" in reason else f"is damaged ({reason or 'a wrong checksum'})"
    last = image.getpixel((0, image.height - 1))
    uniform = _uniform_rows(image, last)
    missing = uniform if last == filled else 0
    if uniform == image.height or (missing and image.format == "JPEG" and _has_only_first_block(image, missing, last)):
        raise PictureError(f"{defect}: nothing of it can be read")
    share = f"the last {max(1, round(100 * missing / image.height))} % of its rows are missing and are replaced by gray"
    return f"{defect}: {share if missing else 'parts or details of it may be missing'}"


def open_damaged(file: BufferedReader) -> Opened:
    """Opens a damaged file, with Pillow's strict checks off.

    Raises:
        Exception: Pillow still cannot open the file; of any type.
    """
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    with _lenient():
        if start[:4] == b"RIFF" and start[8:] == b"WEBP":
            # The WebP decoder returns all or nothing: pad the file to the size in its header.
            data = _first_picture(file.read())
            return Opened(Image.open(_padded(data, _PADDING), formats=["WEBP"]), True, data)
        return Opened(Image.open(file, formats=FORMATS), True)


@contextmanager
def _lenient() -> Iterator[None]:
    """Makes Pillow accept wrong checksums and truncated files in the block."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _fill_gray(image: Image.Image) -> int | tuple[int, ...] | None:
    """Fills an image with gray before it is loaded; returns the gray pixel value, None if the mode has none."""
    gray = _nearest_gray(image) if image.mode == "P" else _GRAY.get(image.mode)
    if gray is not None and image.format not in ("JPEG", "WEBP"):  # the decoders of these write all pixels
        image.im = Image.new(image.mode, image.size, gray).im
    return gray


def _nearest_gray(image: Image.Image) -> int:
    """Returns the palette index of the color nearest to gray."""
    palette = image.palette
    colors = list((palette.palette if palette is not None else b"") or b"")
    step = 4 if palette is not None and palette.mode == "RGBA" else 3
    distances = [sum(abs(level - 128) for level in colors[at : at + 3]) for at in range(0, len(colors) - 2, step)]
    return distances.index(min(distances)) if distances else 0


def _uniform_rows(image: Image.Image, color: object) -> int:
    """Returns the number of rows at the bottom that have only the given color."""
    bottom, rows = image.height, max(1, _STRIP // image.width)
    # Compare strips from the bottom up, and halve the first strip that differs: this bounds the memory.
    while bottom and rows:
        strip = image.crop((0, max(0, bottom - rows), image.width, bottom))
        if _has_only(strip.getextrema(), color):
            bottom -= strip.height
        else:
            rows = strip.height // 2
    return image.height - bottom


def _has_only_first_block(image: Image.Image, missing: int, color: object) -> bool:
    """Returns whether only a JPEG's first block differs: a decoder writes that block even without data."""
    rest = (min(_BLOCK, image.width - 1), 0, image.width, image.height - missing)
    return missing >= image.height - _BLOCK and _has_only(image.crop(rest).getextrema(), color)


def _has_only(extrema: object, color: object) -> bool:
    levels = color if isinstance(color, tuple) else (color,)
    bands = extrema if isinstance(color, tuple) else (extrema,)
    return bands == tuple((level, level) for level in levels)


def _first_picture(data: bytes) -> bytes:
    """Returns the chunks of a WebP up to its first picture, which may be truncated."""
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8 + size + size % 2
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            break
    if at - len(data) > _MAX_MISSING:
        raise ValueError("most of its data is missing")
    return data[:4] + struct.pack("<I", at - 8) + data[8:at]


def _padded(data: bytes, padding: int) -> io.BytesIO:
    """Returns a WebP padded to the size in its header."""
    return io.BytesIO(data + bytes([padding]) * (8 + struct.unpack_from("<I", data, 4)[0] - len(data)))


def _clear_padded(image: Image.Image, data: bytes) -> None:
    """Makes the rows gray that come from padding: all from the first row on that depends on the padding's value."""
    before, after = _row_hashes(image), _row_hashes_of_other_padding(data)
    good = next((row for row, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]), image.height)
    if good < image.height:
        image.paste(_GRAY[image.mode], (0, good, image.width, image.height))


def _row_hashes_of_other_padding(data: bytes) -> list[bytes]:
    """Returns the row hashes of a truncated WebP that is decoded with another padding."""
    for padding in _OTHER_PADDINGS:
        with suppress(OSError), Image.open(_padded(data, padding), formats=["WEBP"]) as other:
            return _row_hashes(other)
    raise PictureError(f"{TRUNCATED}: nothing of it can be read")


def _row_hashes(image: Image.Image) -> list[bytes]:
    """Returns a hash of each row: the rows themselves would take as much memory as the picture."""
    width, height = image.size
    image.load()
    return [hashlib.sha256(image.crop((0, y, width, y + 1)).tobytes()).digest() for y in range(height)]
