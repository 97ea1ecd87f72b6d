"""What can still be read of a damaged picture file, as browsers show it: the rows that are there, and gray below."""

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
"""Of which browsers show what there is."""
DAMAGE = (OSError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)
"""What Pillow raises at a damaged file. What it raises at one that is made to do harm is something else."""
LACKS_END = "is damaged, it lacks its end"
_GRAY: dict[str, int | tuple[int, ...]] = {
    "1": 255, "L": 128, "LA": (128, 255), "RGB": (128,) * 3, "RGBA": (128, 128, 128, 255), "CMYK": (0, 0, 0, 127),
    "YCbCr": (128,) * 3, "I;16": 128 * 257,
}  # fmt: skip
# Pixels looked at together.
_STRIP = 1 << 18
# Side of a block of a JPEG.
_BLOCK = 16
# Bytes that a WebP may lack.
_MOST_LACKING = 32 << 20
# What stands for them: nearly any data can go on with the first, and with one of the others.
_FILLING, _OTHER_FILLINGS = 0x00, (0x80, 0x10, 0x01)


@dataclass(frozen=True)
class Opened:
    """A picture file that has been opened, not decoded.

    Attributes:
        damaged: whether Pillow does not read it as it is.
        cut: of a WebP that lacks its end, what there is.
        has_end: whether it has its end, as far as can be told.
    """

    image: Image.Image
    damaged: bool = False
    cut: bytes = b""
    has_end: bool = True


def load(opened: Opened, reason: str) -> str:
    """Loads what there is of a damaged image, with gray in place of the rest.

    Args:
        reason: what Pillow says of it; empty if it did not even open it as it is.

    Returns:
        what is wrong with it, as a sentence that begins with a verb.

    Raises:
        PictureError: nothing of it can be read.
    """
    image = opened.image
    filled = _fill(image)
    with _lenient():
        image.load()
        if opened.cut:
            _clear_padded(image, opened.cut)
    what = LACKS_END if opened.cut or "truncated" in reason else f"is damaged ({reason or 'a wrong checksum'})"
    last = image.getpixel((0, image.height - 1))
    alike = _rows_alike(image, last)
    missing = alike if last == filled else 0
    if alike == image.height or (missing and image.format == "JPEG" and _is_one_block(image, missing, last)):
        raise PictureError(f"{what}: nothing of it can be read")
    share = f"the last {max(1, round(100 * missing / image.height))} % of its rows are missing, and gray here"
    return f"{what}: {share if missing else 'parts or details of it may be missing'}"


def open_damaged(file: BufferedReader) -> Opened:
    """Opens a file that Pillow does not read as it is.

    Raises:
        Exception: it cannot be opened, in any way that Pillow has.
    """
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    with _lenient():
        if start[:4] == b"RIFF" and start[8:] == b"WEBP":
            # Its decoder gives all or nothing, so it is padded to the size it says it has.
            data = _first_picture(file.read())
            return Opened(Image.open(_padded(data, _FILLING), formats=["WEBP"]), True, data)
        return Opened(Image.open(file, formats=FORMATS), True)


@contextmanager
def _lenient() -> Iterator[None]:
    """Has Pillow pass over wrong checksums and missing ends in the block."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _fill(image: Image.Image) -> int | tuple[int, ...] | None:
    """Makes an image gray before it is loaded; what stands in it for gray."""
    gray = _nearest_gray(image) if image.mode == "P" else _GRAY.get(image.mode)
    if gray is not None and image.format not in ("JPEG", "WEBP"):  # whose decoders write all pixels
        image.im = Image.new(image.mode, image.size, gray).im
    return gray


def _nearest_gray(image: Image.Image) -> int:
    """The index of the color of a palette that is nearest to gray."""
    palette = image.palette
    colors = list((palette.palette if palette is not None else b"") or b"")
    step = 4 if palette is not None and palette.mode == "RGBA" else 3
    distances = [sum(abs(level - 128) for level in colors[at : at + 3]) for at in range(0, len(colors) - 2, step)]
    return distances.index(min(distances)) if distances else 0


def _rows_alike(image: Image.Image, color: object) -> int:
    """The number of rows at the bottom that are of one color alone."""
    bottom, rows = image.height, max(1, _STRIP // image.width)
    # A strip after the other, and the rows of the last one by halves, so that little is held.
    while bottom and rows:
        strip = image.crop((0, max(0, bottom - rows), image.width, bottom))
        if _is_of(strip.getextrema(), color):
            bottom -= strip.height
        else:
            rows = strip.height // 2
    return image.height - bottom


def _is_one_block(image: Image.Image, missing: int, color: object) -> bool:
    """Whether a JPEG has its first block alone, which comes out of nothing."""
    rest = (min(_BLOCK, image.width - 1), 0, image.width, image.height - missing)
    return missing >= image.height - _BLOCK and _is_of(image.crop(rest).getextrema(), color)


def _is_of(extrema: object, color: object) -> bool:
    levels = color if isinstance(color, tuple) else (color,)
    bands = extrema if isinstance(color, tuple) else (extrema,)
    return bands == tuple((level, level) for level in levels)


def _first_picture(data: bytes) -> bytes:
    """The chunks of a WebP up to its first picture, which may lack its end."""
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8 + size + size % 2
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            break
    if at - len(data) > _MOST_LACKING:
        raise ValueError("it lacks most of its data")
    return data[:4] + struct.pack("<I", at - 8) + data[8:at]


def _padded(data: bytes, filling: int) -> io.BytesIO:
    return io.BytesIO(data + bytes([filling]) * (8 + struct.unpack_from("<I", data, 4)[0] - len(data)))


def _clear_padded(image: Image.Image, data: bytes) -> None:
    """Makes gray what came out of the padding: the rows from the first on that depends on what was padded with."""
    before, after = _rows(image), _rows_otherwise(data)
    good = next((row for row, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]), image.height)
    if good < image.height:
        image.paste(_GRAY[image.mode], (0, good, image.width, image.height))


def _rows_otherwise(data: bytes) -> list[bytes]:
    """The rows of a padded WebP with another padding."""
    for filling in _OTHER_FILLINGS:
        with suppress(OSError), Image.open(_padded(data, filling), formats=["WEBP"]) as other:
            return _rows(other)
    raise PictureError(f"{LACKS_END}: nothing of it can be read")


def _rows(image: Image.Image) -> list[bytes]:
    """A hash of each row; rows themselves would be as much again as the picture."""
    width, height = image.size
    image.load()
    return [hashlib.sha256(image.crop((0, y, width, y + 1)).tobytes()).digest() for y in range(height)]
