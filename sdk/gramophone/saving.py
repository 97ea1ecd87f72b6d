"""Results as files of the format that a name's suffix says, with the profile and the recipe that the result has.

The recipe stands in a PNG's text chunk "gramophone", and in the ImageDescription of others: a tag of TIFF, and of the
EXIF data of JPEG, WebP and AVIF.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import atomic_file
from .images import encode

if TYPE_CHECKING:
    from PIL import Image

    from .images import ImageLike

QUALITY = 95
"""Of JPEG and AVIF, 1 to 100, unless another is asked for."""
_FORMATS = {
    ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG",
    ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP",
}  # fmt: skip
_LOSSY = ("JPEG", "WEBP", "AVIF")
_SIGNATURES = {"PNG": (b"\x89PNG",), "TIFF": (b"II*\0", b"MM\0*")}
_DESCRIPTION = 0x010E
_KEY = "gramophone"
# Where a PNG says how many bits a channel has.
_DEPTH_AT = 24


def save(path: str | os.PathLike[str], data: bytes, quality: int | None = None) -> None:
    """Writes a result, whole or not at all, in the format that the suffix of the path says.

    Args:
        data: the result's file, which is written as it is if it has that format.
        quality: 1 to 100, of a JPEG, WebP or AVIF. Default 95; a WebP is lossless. Colors are at full resolution but
            in a WebP of a quality below 100, where they are at half.

    Raises:
        OSError: it cannot be written.
        ValueError: the suffix is of no format that can be written, or of one that has fewer bits than the result.
    """
    place = Path(path).expanduser()
    encoded = convert(data, place, quality)
    with atomic_file(place) as file:
        file.write(encoded)


def convert(data: bytes, path: Path, quality: int | None = None) -> bytes:
    """A result's file in the format that the suffix of a path says; see `save`."""
    format = _format_of(path)
    if data.startswith(_SIGNATURES.get(format, b"\0none")):
        return data
    if _is_16_bit(data):
        raise ValueError(_bits(path, _name(data)))
    from .images import decode

    return encode_image(decode(data), path, quality, text=_recipe_text(data))


def encode_image(image: Image.Image, path: Path, quality: int | None = None, text: str = "") -> bytes:
    """A file of an image in the format that the suffix of a path says, with its profile and this recipe; see `save`."""
    from PIL import Image, PngImagePlugin

    format = _format_of(path)
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
    """Sees that a result can be written in the format of a path's suffix, before there is one.

    Args:
        bit_depth: bits a channel that it will have; None for the default, 8.

    Raises:
        ValueError: it cannot.
    """
    format = _format_of(path)
    if bit_depth == 16 and format not in _SIGNATURES:
        raise ValueError(_bits(path, "png or .tif"))


def has_quality(path: Path) -> bool:
    """Whether the format of a path's suffix has a quality."""
    return _FORMATS.get(path.suffix.lower()) in _LOSSY


def read_recipe(picture: ImageLike) -> dict[str, Any]:
    """The recipe in a result's file, as `Result.recipe` has it.

    Args:
        picture: the path of the file, its bytes, or an open file.

    Raises:
        ValueError: it has none.
    """
    text = _recipe_text(encode(picture))
    try:
        recipe = json.loads(text)
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict):
        raise ValueError("the picture has no recipe of gramophone in it")
    return recipe


def _lossy(format: str, quality: int | None) -> dict[str, Any]:
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    if format == "WEBP":
        # Its lossy kind has colors at half the resolution, whatever the quality.
        return {"lossless": True} if quality in (None, 100) else {"quality": quality, "method": 6}
    chosen = {"quality": QUALITY if quality is None else quality}
    return chosen | ({"subsampling": "4:4:4"} if format == "AVIF" else {"subsampling": 0, "optimize": True})


def _format_of(path: Path) -> str:
    """Pillow's name of the format of a suffix, of which a picture can be written."""
    from PIL import Image

    suffix = path.suffix.lower()
    Image.init()
    format = _FORMATS.get(suffix) or Image.EXTENSION.get(suffix, "")
    if format in Image.SAVE and (suffix in _FORMATS or _takes_colors(format)):
        return format
    known = ", ".join(name for name in _FORMATS if _FORMATS[name] in Image.SAVE)
    raise ValueError(f"{path}: pictures cannot be written as {suffix or 'a file without a suffix'}; use {known}")


def _takes_colors(format: str) -> bool:
    """Whether Pillow writes pictures in color in a format of which no more is known here."""
    from PIL import Image

    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), format=format)
    except Exception:
        return False
    return True


def _bits(path: Path, instead: str) -> str:
    return (
        f"{path}: the result has 16 bits a channel, and {path.suffix} is written with 8; save it as .{instead}, or ask "
        "for a bit depth of 8"
    )


def _name(data: bytes) -> str:
    return "png" if data.startswith(_SIGNATURES["PNG"]) else "tif"


def _is_16_bit(data: bytes) -> bool:
    if data.startswith(_SIGNATURES["PNG"]):
        return data[_DEPTH_AT : _DEPTH_AT + 1] == b"\x10"
    bits = _tiff_tags(data).get(258, ()) if data.startswith(_SIGNATURES["TIFF"]) else ()
    return 16 in (bits if isinstance(bits, tuple) else (bits,))


def _recipe_text(data: bytes) -> str:
    """The text that stands in a file where recipes do; empty if there is none."""
    from PIL import Image

    if data.startswith(_SIGNATURES["TIFF"]):
        # Pillow does not open TIFFs of 16-bit colors.
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
