"""Pictures out: previews and results."""

import io
import json
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..jobs.events import EncodedPicture
from ..jobs.spec import FormatName

_SAVE: dict[FormatName, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 3},
    "jpeg": {"format": "JPEG", "quality": 85},
    "webp": {"format": "WEBP", "quality": 80, "method": 2},
}


def encode_preview(pixels: np.ndarray, size: int, format: FormatName) -> EncodedPicture:
    """A uint8 RGB picture (H, W, 3), scaled down so that no side exceeds `size`."""
    image = Image.fromarray(pixels)
    image.thumbnail((size, size), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, **_SAVE[format])
    return EncodedPicture(buffer.getvalue(), format, image.width, image.height)


def encode_result(pixels: np.ndarray, recipe: dict[str, Any]) -> tuple[EncodedPicture, str]:
    """A PNG of a uint8 RGB picture (H, W, 3) with its recipe in the text chunk "gramophone", and the recipe as JSON."""
    text = json.dumps(recipe, sort_keys=True)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("gramophone", text)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info, compress_level=6)
    height, width, _ = pixels.shape
    return EncodedPicture(buffer.getvalue(), "png", width, height), text
