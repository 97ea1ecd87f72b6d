"""Conversion of PIL images to picture files, which the server reads like the images' own files."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import Any

from PIL import Image, ImageFile, ImageOps

from .image_arrays import gray16

# Formats whose first frame the server reads exactly as Pillow does here.
_SAME_ON_SERVER = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF")
_PNG = ("1", "L", "LA", "P", "RGB", "RGBA")
_GRAY16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# Modes to convert before encoding as PNG; premultiplied alpha and the alpha of a palette become an alpha channel.
_CONVERTED = {"RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "RGBa": "RGBA", "PA": "RGBA", "La": "LA"}
# Message for the many exceptions that Pillow raises for a bad image.
_NOT_LOADED = "the PIL image cannot be loaded ({}); open its file again, or give the file's path or bytes"


def from_pil(image: Image.Image) -> bytes:
    """Returns a file of a PIL image's current frame: the file it was opened from if it is unchanged, else a new one.

    Raises:
        ValueError: the image has no pixels, cannot be loaded, or has a mode whose range is not defined.
    """
    if (data := _own_file(image)) is not None:
        return data
    try:
        image.load()
        # An image that was already rotated has no orientation tag, so this does not rotate it twice.
        rotated = ImageOps.exif_transpose(image)
    except Exception as error:
        raise ValueError(_NOT_LOADED.format(str(error) or type(error).__name__)) from error
    # Drop other metadata: the server does not use it, or it no longer describes the new file.
    rotated.info = {name: rotated.info[name] for name in ("icc_profile", "transparency") if name in rotated.info}
    if 0 in rotated.size:
        raise ValueError(f"the PIL image has no pixels: it is {rotated.width}x{rotated.height}")
    return _file(rotated)


def png(image: Image.Image) -> bytes:
    """Encodes an image as PNG; its mode must be one that PNG supports."""
    buffer = io.BytesIO()
    # For photographs these settings are twice as fast as others, and the file is not larger.
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
        # The server applies the profile. Uncompressed: compression takes seconds and hardly reduces the size.
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
    """Returns the bytes of the file from which an image was opened, if the image is unchanged since; else None."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in _SAME_ON_SERVER:
        return None
    file: Any = image.fp
    # An image without tiles has been loaded, so its pixels may have been changed.
    if not image.tile or file is None or file.closed or image.tell() != 0:
        return None
    here = file.tell()
    try:
        file.seek(0)
        data: bytes = file.read()
    finally:
        file.seek(here)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow has already issued these when the image was opened.
        try:
            fresh = Image.open(io.BytesIO(data), formats=[image.format])
        except Exception:
            return None
    return data if _state(fresh) == _state(image) and not _has_other_exif(image, fresh) else None


def _state(image: ImageFile.ImageFile | Image.Image) -> tuple[object, ...]:
    """Returns the properties of an image that can change before it is loaded, by `draft` or by an edit of `info`."""
    return (
        image.format, image.mode, image.size, getattr(image, "tile", None), getattr(image, "decoderconfig", None),
        image.info,
    )  # fmt: skip


def _has_other_exif(image: Image.Image, fresh: Image.Image) -> bool:
    """Whether the image's EXIF data were read and then changed. Does not read them, which could load the image."""
    known = getattr(image, "_exif", None)
    return known is not None and dict(known) != dict(Image.Image.getexif(fresh))
