"""Pictures on their way to the service and back.

The service decodes, orients and converts every picture file itself, so files and bytes travel as they are; PIL images and
arrays become PNG files, which hold the same 8-bit values.
"""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Picture: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray[Any, Any]"
"""A picture in any form: path of a file, bytes of a file, PIL image, or array.

An array is uint8 of 0 to 255 or floating point of 0 to 1, shaped (height, width, 3) in the order red, green, blue, or
(height, width) for grey.
"""

_ORIENTATION = 0x0112  # EXIF tag
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


def encode_picture(picture: Picture, name: str = "picture") -> bytes:
    """The bytes of a picture file.

    Args:
        picture: the picture.
        name: what to call it in errors.

    Raises:
        FileNotFoundError: there is no file at the path.
        TypeError: it is none of the forms of `Picture`, or an array of another dtype.
        ValueError: it is empty, or an array of another shape or with values out of range.
    """
    if isinstance(picture, (str, os.PathLike)):
        return _not_empty(Path(picture).read_bytes(), f"{name}: the file {os.fspath(picture)!r}")
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _not_empty(bytes(picture), name)

    # Only now, so that who sends files does not wait for these imports.
    import numpy as np
    from PIL import Image

    if isinstance(picture, Image.Image):
        return _encode_image(picture, name)
    if isinstance(picture, np.ndarray):
        return _png(Image.fromarray(_to_uint8(picture, name)))
    raise TypeError(
        f"{name} is of type {type(picture).__name__}; give a path, the bytes of a picture file, a PIL image, or an array"
    )


def decode_picture(data: bytes) -> "Image.Image":
    """The picture in a file that the service sent, as an RGB PIL image."""
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB")


def _not_empty(data: bytes, name: str) -> bytes:
    if not data:
        raise ValueError(f"{name} is empty; give the bytes of a picture file")
    return data


def _encode_image(image: "Image.Image", name: str) -> bytes:
    from PIL import Image, ImageFile

    if not image.width or not image.height:
        raise ValueError(f"{name} is an empty image of {image.width}x{image.height} pixels")
    if image.mode == "F":
        raise ValueError(f"{name} is an image of mode F, whose range is undefined; give an array of floats of 0 to 1")
    if image.mode == "CMYK":
        # PNG has no CMYK; the service converts it by its profile, as it would the file's.
        return _save(image, "TIFF", compression="tiff_lzw")
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    orientation = image.getexif().get(_ORIENTATION) if isinstance(image, ImageFile.ImageFile) else None
    if orientation is None:
        return _png(image)
    # An image as it was opened lies as its camera held it; one that has been worked on is as its owner sees it.
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return _png(image, exif=exif)


def _to_uint8(array: "np.ndarray[Any, Any]", name: str) -> "np.ndarray[Any, Any]":
    import numpy as np

    _check_shape(array, name)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"{name} is an array of dtype {array.dtype}; use uint8 with values of 0 to 255, or floats of 0 to 1"
        )
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} is an array with values that are not finite; replace its NaN and infinities")
    if low < 0 or high > 1:
        advice = "divide it by 255" if low >= 0 and 1 < high <= 255 else "scale or clip it"
        raise ValueError(f"{name} is a float array with values of {low:g} to {high:g}; they must be 0 to 1: {advice}")
    return np.ascontiguousarray(np.rint(array.astype(np.float64) * 255).astype(np.uint8))


def _check_shape(array: "np.ndarray[Any, Any]", name: str) -> None:
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} is an array of shape {array.shape}; it must be (height, width, 3), or (height, width) for grey"
        )
    if array.ndim == 3 and array.shape[2] != 3:
        if array.shape[0] == 3:
            advice = "the channels come last: transpose it by (1, 2, 0)"
        elif array.shape[2] == 4:
            advice = "drop the alpha channel, or give a PIL image of mode RGBA"
        else:
            advice = "it must have 3, red, green and blue"
        raise ValueError(f"{name} is an array of shape {array.shape}, with {array.shape[2]} channels; {advice}")
    if not array.size:
        raise ValueError(f"{name} is an empty array of shape {array.shape}")


def _png(image: "Image.Image", **options: Any) -> bytes:
    # Level 1 is several times as fast as the default and hardly larger, for photographs.
    return _save(image, "PNG", compress_level=1, **options)


def _save(image: "Image.Image", file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()
