"""Pictures in the forms that callers have them in, and the bytes that go over the wire."""

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
    """A picture: a path, a file's bytes, an open file, a PIL image, an array, see `encode`, or one uploaded before."""


def encode(image: ImageLike) -> bytes:
    """The bytes of a picture file.

    Args:
        image: one of these:

            - the path of a file, or a file's bytes, which are sent as they are.
            - a file open for reading bytes. It is read from its beginning, as `PIL.Image.open` does; one that cannot
              seek, such as a response of `urllib`, from where it stands.
            - a PIL image of any mode but F. The server makes of it what it makes of its file: it is turned as its EXIF
              or XMP data say, its ICC profile and its transparency go along, and of several frames the current one is
              taken. Modes I and I;16 are gray of 0 to 65535.
            - an array of shape (H, W, 3) RGB, (H, W, 4) RGBA, (H, W) or (H, W, 1) gray: uint8, uint16, bool, or
              floating point of 0 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        TypeError: it is none of these.
        ValueError: it is an address, an empty or a closed file, a PIL image of another mode or that cannot be loaded,
            or an array of another shape, type or range.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return from_bytes(image)
    if isinstance(image, str | os.PathLike):
        return from_path(image)
    # Who has no PIL image has perhaps not loaded Pillow, which takes a while.
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


def decode(data: bytes) -> Image.Image:
    """The picture of a file's bytes."""
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.load()
    return image
