"""PIL images as files that a server reads as it would read the images' own."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import Any

from PIL import Image, ImageFile, ImageOps

from .image_arrays import gray16

# Formats of which a server reads the same first frame as Pillow does here.
_READ = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF")
_PNG = ("1", "L", "LA", "P", "RGB", "RGBA")
_GRAY16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# What each mode is in a PNG: transparency that is already in the colors, or in a palette, gets a channel of its own.
_CONVERTED = {"RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "RGBa": "RGBA", "PA": "RGBA", "La": "LA"}
# Of a bad image Pillow raises nearly anything.
_NOT_READ = "the PIL image cannot be loaded ({}); open its file again, or give the file's path or bytes"


def from_pil(image: Image.Image) -> bytes:
    """A file of a PIL image's current frame: its own, if the image is as it was opened, or a new one.

    Raises:
        ValueError: it has no pixels, cannot be loaded, or has a mode whose range is not defined.
    """
    if (data := _own_file(image)) is not None:
        return data
    try:
        image.load()
        # With the tag that says so: an image that was turned already has none.
        turned = ImageOps.exif_transpose(image)
    except Exception as error:
        raise ValueError(_NOT_READ.format(str(error) or type(error).__name__)) from error
    # Other metadata would not be used, or be taken for those of a file that they no longer describe.
    turned.info = {name: turned.info[name] for name in ("icc_profile", "transparency") if name in turned.info}
    if 0 in turned.size:
        raise ValueError(f"the PIL image has no pixels: it is {turned.width}x{turned.height}")
    return _file(turned)


def png(image: Image.Image) -> bytes:
    """A PNG of an image whose mode PNG has."""
    buffer = io.BytesIO()
    # Of photographs twice as quick as other ways, and no larger.
    image.save(
        buffer, format="PNG", compress_level=1, compress_type=zlib.Z_RLE, icc_profile=image.info.get("icc_profile")
    )
    return buffer.getvalue()


def _file(image: Image.Image) -> bytes:
    if image.mode in _GRAY16:
        made = Image.fromarray(gray16(image, f"the PIL image of mode {image.mode}"))
        made.info = image.info
        return png(made)
    if image.mode == "CMYK":
        # Its profile is for the server to apply. Compressed it would be hardly smaller, and take seconds.
        buffer = io.BytesIO()
        image.save(buffer, format="TIFF", icc_profile=image.info.get("icc_profile"))
        return buffer.getvalue()
    if image.mode in _PNG:
        return png(image)
    if image.mode in _CONVERTED:
        return png(image.convert(_CONVERTED[image.mode]))
    if image.mode == "F":
        raise ValueError(
            "the PIL image has mode F, floating point, whose range is not defined; convert it first: "
            "image.convert('L') if its levels are 0 to 255, or give numpy.asarray(image) if they are 0 to 1"
        )
    raise ValueError(f"the PIL image has mode {image.mode}, which cannot be sent; give image.convert('RGB')")


def _own_file(image: Image.Image) -> bytes | None:
    """The bytes of the file from which an image was opened, if it is still as it was then; else None."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in _READ:
        return None
    file: Any = image.fp
    # Without tiles it has been loaded, and may have been drawn on.
    if not image.tile or file is None or file.closed or image.tell() != 0:
        return None
    here = file.tell()
    try:
        file.seek(0)
        data: bytes = file.read()
    finally:
        file.seek(here)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow has given them when the image was opened.
        try:
            fresh = Image.open(io.BytesIO(data), formats=[image.format])
        except Exception:
            return None
    return data if _state(fresh) == _state(image) and not _has_other_exif(image, fresh) else None


def _state(image: ImageFile.ImageFile | Image.Image) -> tuple[object, ...]:
    """What changes of an image that is not loaded: by `draft`, or by changes of `info`."""
    return (
        image.format, image.mode, image.size, getattr(image, "tile", None), getattr(image, "decoderconfig", None),
        image.info,
    )  # fmt: skip


def _has_other_exif(image: Image.Image, fresh: Image.Image) -> bool:
    """Whether EXIF data that somebody has asked for were changed since. They are not asked for here: that may load."""
    known = getattr(image, "_exif", None)
    return known is not None and dict(known) != dict(Image.Image.getexif(fresh))
