"""Saving of results in the file format of a path's suffix, with their ICC profile and recipe.

A PNG contains the recipe in the text chunk "gramophone", a TIFF in the tag ImageDescription, and a JPEG, WebP or AVIF
in the same tag of its EXIF data.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import atomic_file
from .images import encode, on_white

if TYPE_CHECKING:
    from PIL import Image

    from .images import ImageLike

QUALITY = 95
"""Default quality of JPEG and AVIF, of 1 to 100."""
_FORMATS = {
    ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG",
    ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP",
}  # fmt: skip
_LOSSY = ("JPEG", "WEBP", "AVIF")
_OPAQUE = ("JPEG", "BMP")
_SIGNATURES = {"PNG": (b"\x89PNG",), "TIFF": (b"II*\0", b"MM\0*")}
_DESCRIPTION = 0x010E
_KEY = "gramophone"
# Offset of a PNG's bit depth.
_DEPTH_AT = 24


def save(path: str | os.PathLike[str], data: bytes, quality: int | None = None) -> None:
    """Writes a result atomically, in the format of the path's suffix.

    JPEG and BMP have no transparency: transparent pixels are composited over white.

    Args:
        path: the file to write.
        data: the result's file; written unchanged if it already has the format.
        quality: quality of a JPEG, WebP or AVIF, 1 to 100. Default 95, for WebP lossless. Color has full resolution,
            except in a WebP with a quality below 100, which has half the resolution.

    Raises:
        OSError: the file cannot be written.
        ValueError: the suffix is not of a known format, or the format has fewer bits per channel than the result.
    """
    place = Path(path).expanduser()
    encoded = convert(data, place, quality)
    with atomic_file(place) as file:
        file.write(encoded)


def convert(data: bytes, path: Path, quality: int | None = None) -> bytes:
    """Returns a result's file converted to the format of the path's suffix; see `save` for arguments and errors."""
    format = _format_of(path)
    if data.startswith(_SIGNATURES.get(format, b"\0none")):
        return data
    if _is_16_bit(data):
        raise ValueError(_bits(path, _name(data)))
    from .images import decode

    return encode_image(decode(data), path, quality, text=_recipe_text(data))


def encode_image(image: Image.Image, path: Path, quality: int | None = None, text: str = "") -> bytes:
    """Encodes an image in the format of the path's suffix, with its ICC profile; see `save` for arguments and errors.

    Args:
        text: recipe to store in the file; empty for none.
    """
    from PIL import Image, PngImagePlugin

    format = _format_of(path)
    if format in _OPAQUE:
        image = on_white(image)
    options: dict[str, Any] = {}
    if format in (*_LOSSY, "PNG", "TIFF"):
        options["icc_profile"] = image.info.get("icc_profile")
    if format in _LOSSY:
        options |= _lossy(format, quality)
        exif = Image.Exif()
        if text:
            exif[_DESCRIPTION] = text
            options["exif"] = exif.tobytes()
    elif format == "PNG" and text:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(_KEY, text)
    elif format == "TIFF":
        options |= {"compression": "tiff_adobe_deflate"} | ({"description": text} if text else {})
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def check(path: Path, bit_depth: int | None = None) -> None:
    """Checks that a future result can be written in the format of the path's suffix.

    Args:
        bit_depth: bits per channel of the result; None for the default, 8.

    Raises:
        ValueError: the suffix is not of a known format, or the format has fewer bits per channel.
    """
    format = _format_of(path)
    if bit_depth == 16 and format not in _SIGNATURES:
        raise ValueError(_bits(path, "png or .tif"))


def has_quality(path: Path) -> bool:
    """Whether the format of the path's suffix has a quality setting."""
    return _FORMATS.get(path.suffix.lower()) in _LOSSY


def read_recipe(picture: ImageLike) -> dict[str, Any]:
    """Returns the recipe stored in a result's file, the same as `Result.recipe`.

    Args:
        picture: the path of the file, its bytes, or an open file.

    Raises:
        ValueError: the file contains no recipe.
    """
    text = _recipe_text(encode(picture))
    try:
        recipe = json.loads(text)
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict):
        raise ValueError("the picture contains no recipe of gramophone")
    return recipe


def _lossy(format: str, quality: int | None) -> dict[str, Any]:
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    if format == "WEBP":
        # Lossy WebP always stores color at half the resolution.
        # Exact: keeps the colors of fully transparent pixels.
        return {"lossless": True, "exact": True} if quality in (None, 100) else {"quality": quality, "method": 6}
    chosen = {"quality": QUALITY if quality is None else quality}
    return chosen | ({"subsampling": "4:4:4"} if format == "AVIF" else {"subsampling": 0, "optimize": True})


def _format_of(path: Path) -> str:
    """Returns Pillow's name of the format of the path's suffix; raises ValueError if it cannot be written in color."""
    from PIL import Image

    suffix = path.suffix.lower()
    Image.init()
    format = _FORMATS.get(suffix) or Image.EXTENSION.get(suffix, "")
    if format in Image.SAVE and (suffix in _FORMATS or _takes_colors(format)):
        return format
    known = ", ".join(name for name in _FORMATS if _FORMATS[name] in Image.SAVE)
    raise ValueError(f"{path}: pictures cannot be written as {suffix or 'a file without a suffix'}; use {known}")


def _takes_colors(format: str) -> bool:
    """Whether Pillow can write color pictures in a format."""
    from PIL import Image

    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), format=format)
    except Exception:
        return False
    return True


def _bits(path: Path, instead: str) -> str:
    return (
        f"{path}: the result has 16 bits per channel, but {path.suffix} files have 8; save it as .{instead}, or set "
        "the bit depth to 8"
    )


def _name(data: bytes) -> str:
    return "png" if data.startswith(_SIGNATURES["PNG"]) else "tif"


def _is_16_bit(data: bytes) -> bool:
    if data.startswith(_SIGNATURES["PNG"]):
        return data[_DEPTH_AT : _DEPTH_AT + 1] == b"\x10"
    bits = _tiff_tags(data).get(258, ()) if data.startswith(_SIGNATURES["TIFF"]) else ()
    return 16 in (bits if isinstance(bits, tuple) else (bits,))


def _recipe_text(data: bytes) -> str:
    """Returns the text in a file at the place of the recipe; empty if there is none."""
    from PIL import Image

    if data.startswith(_SIGNATURES["TIFF"]):
        # Pillow cannot open TIFFs with 16-bit color.
        return str(_tiff_tags(data).get(_DESCRIPTION, ""))
    with Image.open(io.BytesIO(data)) as image:
        found = image.info.get(_KEY) if image.format == "PNG" else image.getexif().get(_DESCRIPTION)
    return str(found or "")


def _tiff_tags(data: bytes) -> dict[int, Any]:
    from PIL import TiffImagePlugin

    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    return dict(directory)
