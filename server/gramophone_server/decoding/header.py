"""Reads the header of a picture file: its size, and the memory that decoding takes."""

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
"""The formats that the server reads, by Pillow's names."""
_SHOWN = {"WEBP": "WebP", "HEIF": "HEIC"}
# Pillow's own limit is off: the server has one, which names the field, and Pillow's only warns up to twice the limit.
Image.MAX_IMAGE_PIXELS = None
guard_pillow()

# Bytes per pixel in Pillow's memory, by mode; 4 for all other modes.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4, "PA": 4}
# Bytes per pixel that a decoder needs in addition: coefficients of a progressive JPEG, canvases of a WebP, and 16-bit
# planes plus 8-bit pixels of an AVIF or HEIC.
_PROGRESSIVE, _WEBP, _PLANES = 8, 12, 10
_SLACK = 4 << 20
_START = 4096


def read_header(file: BufferedReader, max_pixels: int) -> Header:
    """Reads the header of a picture file.

    Raises:
        PictureError: the file is not a picture, has an unsupported format or more than `max_pixels` pixels, is damaged,
            or is built to cost far more than its size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of unusual metadata, which is harmless.
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


def has_alpha(image: Image.Image) -> bool:
    """Returns whether a picture may have transparent pixels."""
    if image.mode == "P" and image.palette is None:
        return "transparency" in image.info  # The palette of a damaged file is missing.
    return bool(image.has_transparency_data)


def open_image(file: BufferedReader, max_pixels: int, *, damaged: bool = False) -> Opened:
    """Opens a picture file without decoding it; raises as `read_header`.

    Args:
        damaged: whether Pillow has already failed to decode the file; opens it as `salvage` does.
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
        raise PictureError(_unsupported("a camera's raw file"))
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
        if missing := heif.missing_support(brand):
            raise PictureError(missing)
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
            raise PictureError(f"is a damaged {found} picture: nothing of it can be read") from None
        raise PictureError(_unsupported(kinds.kind_of(start))) from None


def _unsupported(kind: str) -> str:
    """Returns the reason that a file is not read, with all formats that are."""
    names = [_SHOWN.get(name, name) for name in FORMATS]
    reads = f"it reads {', '.join(names[:-1])} and {names[-1]}"
    return f"is {f'{kind}, ' if kind else ''}not a picture this server reads; {reads}"


def orientation(image: Image.Image, file: BufferedReader) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 if there is none."""
    if image.format == "PNG" and "exif" not in image.info and (exif := trailing_exif(file)):
        image.info["exif"] = exif
    # PngImageFile.getexif would decode the whole picture first: call the base class.
    found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _size(image: Image.Image) -> tuple[int, int]:
    """Returns width and height as stored in the file. Pillow's `size` of a TIFF is that after orientation."""
    tags = getattr(image, "tag_v2", None)
    return (tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]) if tags else image.size


def reason_of(error: Exception) -> str:
    """Returns the first line of an error of Pillow, at most 200 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _memory(image: Image.Image, *, turned: bool) -> int:
    """Returns an upper bound of bytes: the decoded picture, plus the decoder's buffers or a turned or sRGB copy."""
    held = _BYTES.get(image.mode, 4)
    extra = 0
    if image.info.get("progressive") or image.info.get("progression"):
        extra = _PROGRESSIVE
    elif image.format == "WEBP":
        extra = _WEBP
    elif image.format in ("AVIF", "HEIF"):
        extra = _PLANES
    elif image.format == "TIFF":
        extra = held  # A TIFF may store the picture as one strip, which is read at once.
    later = max(held if turned else 0, 4)
    # Colors are weighted by alpha in a copy before they are scaled.
    weighted = 8 if has_alpha(image) else 0
    width, height = image.size
    # Pillow also allocates row pointers.
    return width * height * max(held + max(extra, later), weighted) + 32 * height + _SLACK
