"""What is known of a picture file before it is decoded: its size, and what decoding takes."""

import hashlib
import warnings
from dataclasses import replace
from io import BufferedReader

from PIL import ExifTags, Image, UnidentifiedImageError

from . import heif, kinds
from .messages import Header, PictureError
from .metadata import guard_pillow
from .salvage import Opened, open_damaged
from .structure import MAX_SIDE, check_structure, trailing_exif

_PLAIN = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
FORMATS = (*_PLAIN, *(["AVIF"] if heif.has_avif() else []), *(["HEIF"] if heif.has_heic() else []))
"""Names of Pillow's of the formats that are read here."""
_SHOWN = {"WEBP": "WebP", "HEIF": "HEIC"}
# The bound is the server's own, with a message that names the field; Pillow's only warns at first.
Image.MAX_IMAGE_PIXELS = None
guard_pillow()

# Bytes that Pillow holds for a pixel, by mode; 4 for all others.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4, "PA": 4}
# Bytes a pixel that a decoder holds beside the picture: coefficients of a progressive JPEG, canvases of a WebP.
_PROGRESSIVE, _WEBP = 8, 12
# Of AVIF and HEIC: planes of 16 bits, and pixels as bytes.
_PLANES = 10
_SLACK = 4 << 20
_START = 4096


def read_header(file: BufferedReader, max_pixels: int) -> Header:
    """Reads the header of a picture file.

    Raises:
        PictureError: it is no picture, of a format that is not read, damaged, built to cost more than its size, or
            larger than `max_pixels`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which does no harm.
        image = open_image(file, max_pixels).image
        try:
            turned = orientation(image, file) >= 5
        except Exception as error:
            raise PictureError(f"cannot be decoded: {reason_of(error)}") from error
    width, height = _size(image)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    memory = _memory(image, turned=turned)
    return Header(height, width, memory, digest) if turned else Header(width, height, memory, digest)


def open_image(file: BufferedReader, max_pixels: int, *, damaged: bool = False) -> Opened:
    """Opens a picture file, without decoding it; see `read_header`.

    Args:
        damaged: whether it is known that Pillow does not decode it as it is; see `salvage`.
    """
    try:
        start = file.read(_START)
        if not start:
            raise PictureError("is empty; send the bytes of a picture file")
        has_end = check_structure(file)
        opened = open_damaged(file) if damaged else _open(file, start)
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        raise PictureError(f"has a damaged header: {reason_of(error)}") from error
    image = opened.image
    if image.format == "TIFF" and kinds.is_raw(dict(getattr(image, "tag_v2", {}))):
        raise PictureError(_not_read("a camera's raw file"))
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(
            f"is {width}x{height}, {width * height:,} pixels, but this server takes at most {max_pixels:,}; "
            "scale it down first"
        )
    if max(width, height) > MAX_SIDE:
        raise PictureError(f"is {width}x{height}, but this server takes at most {MAX_SIDE:,} pixels a side")
    return replace(opened, has_end=has_end)


def _open(file: BufferedReader, start: bytes) -> Opened:
    if (brand := kinds.brand_of(start)) in heif.BRANDS:
        if lacking := heif.lacking(brand):
            raise PictureError(lacking)
        heif.prepare()
    formats = FORMATS if brand in heif.BRANDS else _PLAIN
    file.seek(0)
    try:
        return Opened(Image.open(file, formats=formats))
    except (UnidentifiedImageError, OSError) as error:
        unidentified, reason = isinstance(error, UnidentifiedImageError), reason_of(error)
    try:
        return open_damaged(file)
    except (MemoryError, PictureError):
        raise
    except Exception:
        if not unidentified:
            raise PictureError(f"has a damaged header: {reason}") from None
        if found := kinds.format_of(start):
            raise PictureError(f"is a damaged {found} picture, of which nothing can be read") from None
        raise PictureError(_not_read(kinds.kind_of(start))) from None


def _not_read(kind: str) -> str:
    names = [_SHOWN.get(name, name) for name in FORMATS]
    reads = f"it reads {', '.join(names[:-1])} and {names[-1]}"
    return f"is {f'{kind}, ' if kind else ''}not a picture this server reads; {reads}"


def orientation(image: Image.Image, file: BufferedReader) -> int:
    """How the picture is to be turned: EXIF's orientation, 1 to 8; 1 if it says nothing."""
    if image.format == "PNG" and "exif" not in image.info and (exif := trailing_exif(file)):
        image.info["exif"] = exif
    # Of a PNG the overridden method would decode all of it first.
    found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _size(image: Image.Image) -> tuple[int, int]:
    """Width and height as the pixels stand in the file, which Pillow turns for a TIFF."""
    tags = getattr(image, "tag_v2", None)
    return (tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]) if tags else image.size


def reason_of(error: Exception) -> str:
    """The first line of what Pillow says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _memory(image: Image.Image, *, turned: bool) -> int:
    """Bytes for the picture as it is decoded, beside it turned or in sRGB, and for what its decoder needs."""
    held = _BYTES.get(image.mode, 4)
    beside = 0
    if image.info.get("progressive") or image.info.get("progression"):
        beside = _PROGRESSIVE
    elif image.format == "WEBP":
        beside = _WEBP
    elif image.format in ("AVIF", "HEIF"):
        beside = _PLANES
    elif image.format == "TIFF":
        beside = held  # A picture may be one strip.
    later = max(held if turned else 0, 4)
    width, height = image.size
    # A row takes a pointer, too.
    return width * height * (held + max(beside, later)) + 32 * height + _SLACK
