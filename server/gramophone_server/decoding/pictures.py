"""From any still image file to 8-bit sRGB at the size that is needed. The one place where files are decoded."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from . import salvage
from .header import open_image, orientation, reason_of
from .messages import PictureError, Pixels, Region

# Pixels converted at once: what conversion takes beside the picture is that of so many.
_STRIP = 1 << 20


def decode(file: BufferedReader, max_pixels: int) -> tuple[Image.Image, str]:
    """Decodes a picture file, whatever its mode: 8-bit sRGB, turned as its EXIF data say, alpha over white.

    Returns:
        the picture, and what is wrong with its file, see `salvage`; empty if nothing is.

    Raises:
        PictureError: see `read_header`; or it cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image, warning = _loaded(file, max_pixels)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_srgb(image), warning
        except (PictureError, MemoryError):
            raise
        except Exception as error:
            # A hostile file can make a decoder raise nearly anything.
            raise PictureError(f"cannot be decoded: {reason_of(error)}") from error


def _loaded(file: BufferedReader, max_pixels: int) -> tuple[Image.Image, str]:
    opened, reason = open_image(file, max_pixels), ""
    if not opened.damaged:
        try:
            warning = "" if opened.has_end else f"{salvage.LACKS_END}: all of its rows are there"
            return _whole(opened.image, file), warning
        except salvage.DAMAGE as error:
            if opened.image.format not in salvage.FORMATS:
                raise
            reason = reason_of(error)
        # What was loaded goes before there is another: the error has held it until here.
        del opened
        file.seek(0)
        opened = open_image(file, max_pixels, damaged=True)
    orientation(opened.image, file)
    return opened.image, salvage.load(opened, reason)


def _whole(image: Image.Image, file: BufferedReader) -> Image.Image:
    size = image.size
    orientation(image, file)  # which reads EXIF data that stand behind the pixels
    image.load()
    if image.format == "HEIF" and image.size != size:
        raise PictureError("has other pixels than its header says; save it anew")
    return image


def cut(
    image: Image.Image, width: int, height: int, region: Region, folder: Path, *, durable: bool, warning: str = ""
) -> Pixels:
    """Squeezes a picture to width x height and writes its pixels into a folder, in a file named by their SHA-256.

    Bilinear, averaging over all pixels that fall into one; as a mask, its brightness.

    Args:
        durable: whether the file is on the disk itself when this returns.
        warning: of the picture; see `decode`.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    source_black = image.getbbox() is None
    if region == "mask":
        image = image.convert("L")
    # One axis after the other, as Pillow does, so that the picture at its first size is let go of in between.
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
    part = folder / ".part"
    hashing = hashlib.sha256()
    with part.open("wb") as file:
        for strip in _strips(image):
            data = strip.tobytes()
            hashing.update(data)
            file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    blob = hashing.hexdigest()
    part.replace(folder / blob)
    return Pixels(blob, image.getbbox() is None, source_black, warning)


def _to_srgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB of a picture of any mode: alpha over white, embedded profile applied."""
    if image.mode == "F":
        raise PictureError("has floating-point pixels, whose range is not defined; save it with 8 or 16 bits a channel")
    if image.mode == "RGB" and not image.info.get("icc_profile") and "transparency" not in image.info:
        return image
    convert = _converter(image)
    made = Image.new("RGB", image.size)
    top = 0
    for strip in _strips(image):
        made.paste(convert(strip), (0, top))
        top += strip.height
    return made


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What converts a strip of the picture."""
    profile = image.info.get("icc_profile")

    @lru_cache(maxsize=1)
    def transform(mode: str) -> ImageCms.ImageCmsTransform | None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
            return ImageCms.buildTransform(source, _srgb(), mode, "RGB")
        except (ImageCms.PyCMSError, OSError):
            return None  # A broken or mismatched profile says nothing; the pixels are taken as they are.

    def convert(strip: Image.Image) -> Image.Image:
        strip = _plain(strip)
        if profile and strip.mode in ("RGB", "L", "CMYK") and (found := transform(strip.mode)) is not None:
            strip = ImageCms.applyTransform(strip, found) or strip
        return strip.convert("RGB")

    return convert


def _plain(image: Image.Image) -> Image.Image:
    """A strip in one of the modes that profiles are about: RGB, L, CMYK."""
    if image.mode.startswith("I"):
        # 16-bit gray. Pillow would clip it at 255 rather than scale it.
        image = image.convert("I").point(lambda level: level * (1 / 257)).convert("L")
    if image.mode in ("PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("1", "P", "HSV", "YCbCr", "LAB"):
        image = image.convert("RGB")
    return image


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """A picture in strips of whole rows, from the top."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
