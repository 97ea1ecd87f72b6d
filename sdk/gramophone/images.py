"""Pictures in the forms that callers have them in, and the bytes that go over the wire."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from .uploads import Uploaded

    ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[Any, Any] | Uploaded
    """A picture: the path of a file, a file's bytes, a PIL image, an array, see `encode`, or one uploaded before."""


def encode(image: ImageLike) -> bytes:
    """The bytes of a picture file.

    Args:
        image: a path or a file's bytes, which are sent as they are; a PIL image; or an array of shape (H, W, 3) RGB,
            (H, W, 4) RGBA or (H, W) grey, either uint8 or floating point of 0 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: it is none of these.
        ValueError: an array of another shape, type or range.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).expanduser().read_bytes()
    # Loaded only when needed, so that importing the package stays fast.
    from PIL import Image

    if isinstance(image, Image.Image):
        return _png(image)
    if hasattr(image, "__array__"):
        return _png(Image.fromarray(_levels(image)))
    raise TypeError(f"a picture must be a path, bytes, a PIL image or an array, not {type(image).__name__}")


def decode(data: bytes) -> Image.Image:
    """The picture of a file's bytes."""
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _png(image: Image.Image) -> bytes:
    if image.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):  # all that PNG has
        image = image.convert("RGB")
    buffer = io.BytesIO()
    # Over a socket a little size costs less than the time to save it.
    image.save(buffer, format="PNG", compress_level=1, icc_profile=image.info.get("icc_profile"))
    return buffer.getvalue()


def _levels(image: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(
            f"an array must have the shape (height, width, 3), (height, width, 4) or (height, width), not {array.shape}"
        )
    if 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} has no pixels")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an array must be uint8 (0 to 255) or floating point (0 to 1), not {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError("a floating-point array must be finite; this one has NaN or infinite values")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"a floating-point array must be of 0 to 1, but this one is of {low:g} to {high:g}; "
            "divide by 255, or use uint8"
        )
    levels: np.ndarray[Any, Any] = (array * 255).round().astype(np.uint8)
    return levels
