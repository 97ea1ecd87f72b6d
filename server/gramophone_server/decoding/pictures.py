"""Decodes still image files to 8-bit sRGB and scales them. No other module decodes files."""

import io
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from . import salvage
from .header import has_alpha, open_image, orientation, reason_of
from .messages import PictureError, PixelKind, Pixels
from .output import write_blob

# Pixels that are converted at once, which bounds the memory of conversion.
_STRIP = 1 << 20
# Offset of a PNG's bit depth, and the factor by which gray of that depth is converted to 8 bits.
_PNG_DEPTH_AT = 24
_GRAY_FACTORS = {2: 85, 4: 17, 16: 1 / 257}


def decode(file: BufferedReader, max_pixels: int, *, alpha: bool = False) -> tuple[Image.Image, str]:
    """Decodes a picture file of any mode to 8-bit sRGB, with the EXIF orientation applied.

    Args:
        alpha: whether a picture with transparent pixels becomes RGBA, with straight alpha; else they are composited
            over white.

    Returns:
        the picture, and a defect of the file as a sentence, see `salvage`; empty if there is none.

    Raises:
        PictureError: as `read_header`, or the file cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image, warning = _load(file, max_pixels)
            ImageOps.exif_transpose(image, in_place=True)
            return (_with_alpha(image) if alpha and has_alpha(image) else _to_srgb(image)), warning
        except (PictureError, MemoryError):
            raise
        except Exception as error:
            # A hostile file can make a decoder raise nearly anything.
            raise PictureError(f"cannot be decoded: {reason_of(error)}") from error


def _load(file: BufferedReader, max_pixels: int) -> tuple[Image.Image, str]:
    opened, reason = open_image(file, max_pixels), ""
    if not opened.damaged:
        try:
            warning = "" if opened.has_end else f"{salvage.TRUNCATED}, but all of its rows are there"
            return _load_intact(opened.image, file), warning
        except salvage.DAMAGE as error:
            if opened.image.format not in salvage.FORMATS:
                raise
            reason = reason_of(error)
        # Free the first image before the second is opened; the caught exception kept it alive until here.
        del opened
        file.seek(0)
        opened = open_image(file, max_pixels, damaged=True)
    orientation(opened.image, file)
    warning = salvage.load(opened, reason)
    _scale_transparency(opened.image, file)
    return opened.image, warning


def _load_intact(image: Image.Image, file: BufferedReader) -> Image.Image:
    size = image.size
    orientation(image, file)  # Read the EXIF data now: in a PNG it may follow the pixels.
    image.load()
    _scale_transparency(image, file)
    if image.format == "HEIF" and image.size != size:
        raise PictureError("has a different size than its header says; save it again")
    return image


def _scale_transparency(image: Image.Image, file: BufferedReader) -> None:
    """Scales the transparent color of a PNG to 8 bits per channel; Pillow keeps the file's number of bits."""
    transparent = image.info.get("transparency")
    if image.format != "PNG" or isinstance(transparent, bytes | None):
        return
    file.seek(_PNG_DEPTH_AT)
    depth = file.read(1)[0]
    if isinstance(transparent, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in transparent) if depth == 16 else transparent
    elif depth in _GRAY_FACTORS:
        image.info["transparency"] = int(transparent * _GRAY_FACTORS[depth])


def write_pixels(
    image: Image.Image, width: int, height: int, kind: PixelKind, folder: Path, *, durable: bool, warning: str = ""
) -> Pixels:
    """Scales a picture to width x height and writes its pixels to a file in a folder, named by their SHA-256.

    Scaling is bilinear, with a support that covers all source pixels when it shrinks. A mask is the brightness. Colors
    are weighted by alpha when they are scaled, so that the colors of transparent pixels do not bleed into others.

    Args:
        durable: whether to sync the file to the disk.
        warning: defect of the picture's file; see `decode`.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    alpha = image.mode == "RGBA"
    source_black = _is_black(image)
    if kind == "mask":
        image = image.convert("L")
    if alpha and image.size != (width, height):
        image = image.convert("RGBa")
    # Resize one axis at a time, as Pillow does internally: this frees the original before the second pass.
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
    if alpha:
        image = image.convert("RGBA")
    blob = write_blob(folder, (strip.tobytes() for strip in _strips(image)), durable=durable)
    return Pixels(blob, _is_black(image), source_black, warning, alpha)


def _is_black(image: Image.Image) -> bool:
    """Returns whether all values are 0; for RGBA, whether all pixels are fully transparent."""
    return (image.getchannel("A") if image.mode == "RGBA" else image).getbbox() is None


def _to_srgb(image: Image.Image) -> Image.Image:
    """Converts a picture of any mode to 8-bit sRGB: alpha over white, embedded color profile applied."""
    if image.mode == "F":
        raise PictureError("has floating-point pixels, whose range is not defined; save it with 8 or 16 bits a channel")
    if image.mode == "RGB" and not image.info.get("icc_profile") and "transparency" not in image.info:
        return image
    convert = _converter(image)
    converted = Image.new("RGB", image.size)
    top = 0
    for strip in _strips(image):
        converted.paste(convert(strip), (0, top))
        top += strip.height
    return converted


def _with_alpha(image: Image.Image) -> Image.Image:
    """Converts a picture to 8-bit sRGB with straight alpha, or without alpha if all pixels are opaque."""
    # Test first: a copy with alpha and one without it would not fit into the memory that `read_header` states.
    if all(_split(strip)[1].getextrema() == (255, 255) for strip in _strips(image)):
        return _to_srgb(image)
    convert = _converter(image)
    converted = Image.new("RGBA", image.size)
    top = 0
    for strip in _strips(image):
        color, alpha = _split(strip)
        color = convert(color)
        color.putalpha(alpha)
        converted.paste(color, (0, top))
        top += strip.height
    return converted


def _split(strip: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Returns a strip's colors without transparency, and its straight alpha."""
    strip = _to_8_bits(strip)
    if strip.mode in ("LA", "La"):
        strip = strip.convert("LA")
        return strip.getchannel("L"), strip.getchannel("A")
    with_alpha = strip.convert("RGBA")
    color = strip if strip.mode in ("1", "L", "RGB") else with_alpha.convert("RGB")
    color.info.pop("transparency", None)
    return color, with_alpha.getchannel("A")


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Returns a function that converts a strip of the picture to sRGB."""
    profile = image.info.get("icc_profile")

    @lru_cache(maxsize=1)
    def transform(mode: str) -> ImageCms.ImageCmsTransform | None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
            return ImageCms.buildTransform(source, _srgb(), mode, "RGB")
        except (ImageCms.PyCMSError, OSError):
            return None  # Ignore a broken or mismatched profile.

    def convert(strip: Image.Image) -> Image.Image:
        strip = _to_profile_mode(strip)
        if profile and strip.mode in ("RGB", "L", "CMYK") and (found := transform(strip.mode)) is not None:
            strip = ImageCms.applyTransform(strip, found) or strip
        return strip.convert("RGB")

    return convert


def _to_profile_mode(image: Image.Image) -> Image.Image:
    """Converts a strip to a mode that color profiles apply to: RGB, L or CMYK."""
    image = _to_8_bits(image)
    if image.mode in ("PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("1", "P", "HSV", "YCbCr", "LAB"):
        image = image.convert("RGB")
    return image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Converts 16-bit gray to 8-bit gray; Pillow's own conversion clips at 255 instead of scaling."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda level: level * (1 / 257)).convert("L")
    return image


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """Yields a picture in strips of whole rows, from the top."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
