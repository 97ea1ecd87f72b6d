"""Pictures out: previews and results."""

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
    """A uint8 RGB picture (H, W, 3), scaled down so that no side exceeds `size` and the file fits into an event."""
    whole = Image.fromarray(pixels)
    while True:
        image = whole.copy()
        image.thumbnail((size, size), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        image.save(buffer, **_SAVE[format])
        data = buffer.getvalue()
        if len(data) <= INLINE_BYTES:
            return EncodedPicture(data, format, image.width, image.height).hashed()
        # The bytes go about with the pixels.
        size = int(max(image.size) * min(0.9, math.sqrt(INLINE_BYTES / len(data))))


def encode_result(pixels: np.ndarray, result: ResultOptions, recipe: dict[str, Any]) -> tuple[EncodedPicture, str]:
    """A file of an RGB picture (H, W, 3), uint8 or uint16, with the profile of sRGB and its recipe, and that as JSON.

    The recipe stands in a PNG's text chunk "gramophone" or a TIFF's ImageDescription.
    """
    text = json.dumps(recipe, sort_keys=True)
    buffer = io.BytesIO()
    if result.format == "tiff":
        # Uncompressed by tifffile's own defaults; deflate with prediction is what every reader knows.
        tifffile.imwrite(
            buffer, pixels, photometric="rgb", compression="zlib", predictor=True, metadata=None,
            description=text, iccprofile=srgb_profile(), software=False,
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
    """The ICC profile of sRGB, always the same bytes."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The header says when it was made (bytes 24 to 35) and has a checksum that covers that (84 to 99; zeros: none).
    profile[24:36] = (2000).to_bytes(2, "big") + b"\0\1\0\1" + bytes(6)
    profile[84:100] = bytes(16)
    return bytes(profile)


def _write_png16(buffer: io.BytesIO, pixels: np.ndarray, info: PngImagePlugin.PngInfo) -> None:
    """A PNG with 16 bits per channel, which Pillow cannot write."""
    height, width, channels = pixels.shape
    plain = io.BytesIO()
    png.Writer(width, height, bitdepth=16, greyscale=False).write(plain, pixels.reshape(height, width * channels))
    plain.seek(0)
    header, *rest = png.Reader(file=plain).chunks()
    extra = [
        (b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile(), 9)),
        *((chunk[0], chunk[1]) for chunk in info.chunks),
    ]
    png.write_chunks(buffer, [header, *extra, *rest])
