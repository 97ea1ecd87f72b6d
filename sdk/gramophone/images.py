"""Conversion between the kinds of pictures that callers pass and the bytes of picture files."""

from __future__ import annotations

import io
import os
import sys
from typing import IO, TYPE_CHECKING, Any, cast

from .image_files import from_bytes, from_file, from_path

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from .uploads import Uploaded

    ImageLike = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray[Any, Any] | Uploaded
    """A picture: a path, a file's bytes, an open file, a PIL image, an array (see `encode`), or an uploaded picture."""


def encode(image: ImageLike) -> bytes:
    """Returns the bytes of a picture file.

    Args:
        image: one of these:

            - the path of a file, or the bytes of a file; they are sent unchanged.
            - a file open for reading bytes. Like `PIL.Image.open`, this reads from its start; if it cannot seek, as a
              response of `urllib`, from its current position.
            - a PIL image of any mode except F. The server treats it like its file: it applies the EXIF or XMP
              orientation, the ICC profile and the transparency. An image with several frames is sent as its current
              frame. Modes I and I;16 are gray levels of 0 to 65535.
            - an array of shape (H, W, 3) RGB, (H, W, 4) RGBA, (H, W) or (H, W, 1) gray: uint8, uint16, bool, or
              floating point with values of 0 to 1.

    Raises:
        FileNotFoundError: the file does not exist.
        IsADirectoryError: the path is a folder.
        TypeError: the image is none of these.
        ValueError: the image is a URL, an empty or closed file, a PIL image of mode F or that cannot be loaded, or an
            array of another shape, type or range.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return from_bytes(image)
    if isinstance(image, str | os.PathLike):
        return from_path(image)
    # Check sys.modules instead of importing Pillow, which is slow: without it, `image` is not a PIL image.
    if "PIL.Image" in sys.modules and isinstance(image, sys.modules["PIL.Image"].Image):
        from .image_objects import from_pil

        return from_pil(cast("Image.Image", image))
    if hasattr(image, "__array__"):
        from .image_arrays import from_array

        return from_array(image)
    if hasattr(image, "read"):
        return from_file(image)
    raise TypeError(
        f"a picture must be a path, bytes, an open file, a PIL image or an array, not {type(image).__name__}"
    )


def on_white(image: Image.Image) -> Image.Image:
    """Returns an image composited over white, without alpha; an image without alpha is returned unchanged."""
    if image.mode != "RGBA":
        return image
    from PIL import Image

    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    whole.info = image.info
    return whole


def decode(data: bytes) -> Image.Image:
    """Decodes the bytes of a picture file to a PIL image."""
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.load()
    return image
