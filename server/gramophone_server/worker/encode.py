"""Encoding of previews and results as image files."""

import io
import json
import math
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
import png
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from ..messages.events import INLINE_BYTES, EncodedPicture
from ..messages.options import ImageFormat, ResultOptions

_SAVE: dict[ImageFormat, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 3},
    "jpeg": {"format": "JPEG", "quality": 85},
    "webp": {"format": "WEBP", "quality": 80, "method": 2},
}


def encode_preview(pixels: np.ndarray, size: int, format: ImageFormat) -> EncodedPicture:
    """Returns a picture as an image file, scaled down so that no side exceeds `size` and the file fits into an event.

    Args:
        pixels: (H, W, 3), uint8 RGB, or (H, W, 4) RGBA; a JPEG shows transparent pixels over white.
        size: maximum side in pixels; the picture is made smaller still if the file exceeds `INLINE_BYTES`.
        format: format of the file.
    """
    whole = Image.fromarray(pixels)
    if format == "jpeg" and whole.mode == "RGBA":
        whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    while True:
        image = whole.copy()
        image.thumbnail((size, size), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        image.save(buffer, **_SAVE[format])
        data = buffer.getvalue()
        if len(data) <= INLINE_BYTES:
            return EncodedPicture(data, format, image.width, image.height).hashed()
        # The number of bytes is roughly proportional to the number of pixels.
        size = int(max(image.size) * min(0.9, math.sqrt(INLINE_BYTES / len(data))))


def encode_result(pixels: np.ndarray, result: ResultOptions, recipe: dict[str, Any]) -> tuple[EncodedPicture, str]:
    """Returns the image file of a result and its recipe as JSON.

    The file contains the sRGB profile and the recipe: in the text chunk "gramophone" of a PNG, or in the
    ImageDescription of a TIFF.

    Args:
        pixels: (H, W, 3), uint8 or uint16 RGB, or (H, W, 4) RGBA with straight alpha.
        result: format of the file.
        recipe: the settings that produced the picture.
    """
    text = json.dumps(recipe, sort_keys=True)
    buffer = io.BytesIO()
    if result.format == "tiff":
        # tifffile does not compress by default; all common readers support deflate with a predictor.
        extra = ["unassalpha"] if pixels.shape[2] == 4 else None
        tifffile.imwrite(
            buffer, pixels, photometric="rgb", compression="zlib", predictor=True, metadata=None,
            description=text, iccprofile=srgb_profile(), software=False, extrasamples=extra,
        )  # fmt: skip
    else:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("gramophone", text)
        if pixels.dtype == np.uint8:
            image = Image.fromarray(pixels)
            image.save(buffer, format="PNG", pnginfo=info, icc_profile=srgb_profile(), compress_level=6)
        else:
            _write_png16(buffer, pixels, info)
    height, width, _ = pixels.shape
    return EncodedPicture(buffer.getvalue(), result.format, width, height).hashed(), text


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """Returns the ICC profile of sRGB; always the same bytes."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Replace the creation date in the header (bytes 24 to 35), and clear the checksum over it (84 to 99; zeros mean
    # none).
    profile[24:36] = (2000).to_bytes(2, "big") + b"\0\1\0\1" + bytes(6)
    profile[84:100] = bytes(16)
    return bytes(profile)


def _write_png16(buffer: io.BytesIO, pixels: np.ndarray, info: PngImagePlugin.PngInfo) -> None:
    """Writes a PNG with 16 bits per channel, which Pillow cannot write."""
    height, width, channels = pixels.shape
    plain = io.BytesIO()
    writer = png.Writer(width, height, bitdepth=16, greyscale=False, alpha=channels == 4)
    writer.write(plain, pixels.reshape(height, width * channels))
    plain.seek(0)
    header, *rest = png.Reader(file=plain).chunks()
    extra = [
        (b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile(), 9)),
        *((chunk[0], chunk[1]) for chunk in info.chunks),
    ]
    png.write_chunks(buffer, [header, *extra, *rest])
