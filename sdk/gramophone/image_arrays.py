"""Conversion of arrays to picture files."""

from __future__ import annotations

from typing import Any

import numpy as np

_SHAPES = "(height, width, 3), (height, width, 4), (height, width, 1) or (height, width)"
# Half an 8-bit level: tolerance for values slightly outside 0 to 1, as resizing or arithmetic produces.
_ROUNDING = 0.5 / 255
_Array = np.ndarray[Any, Any]


def from_array(image: Any) -> bytes:
    """Encodes an array, or an object that numpy can convert to one (such as a tensor on the CPU), as a PNG.

    Raises:
        TypeError: numpy cannot convert the object.
        ValueError: the array's shape, type or range is not that of a picture.
    """
    from PIL import Image

    from .image_objects import png

    return png(Image.fromarray(_levels(_shaped(_array(image)))))


def gray16(image: Any, name: str) -> _Array:
    """Returns gray levels of 0 to 65535 as uint16 in native byte order.

    Raises:
        ValueError: a level is out of range, or the maximum is 1 to 255, so that the picture would be black (probably
            8-bit levels).
    """
    array = np.asarray(image)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ValueError(f"{name} has levels of {low} to {high}; they must be 0 to 65535")
    if 0 < high <= 255:
        raise ValueError(
            f"{name} has levels of {low} to {high}, which is black, because white is 65535; "
            "convert it to 8 bits if white is 255"
        )
    return array.astype(np.uint16)


def _array(image: Any) -> _Array:
    try:
        return np.asarray(image)
    except Exception as error:
        # numpy raises for a tensor that is on a GPU or requires a gradient.
        kind = type(image).__name__
        reason = (str(error).splitlines() or [""])[0]
        raise TypeError(
            f"a picture of type {kind} cannot be converted to an array ({reason}); give a numpy array, for a torch "
            "tensor tensor.detach().cpu().permute(1, 2, 0).numpy()"
        ) from error


def _shaped(array: _Array) -> _Array:
    """Returns the array with shape (H, W), (H, W, 3) or (H, W, 4); raises ValueError for other shapes."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an array must have the shape {_SHAPES}, not {array.shape}{_advice(array.shape)}")
    if 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} has no pixels")
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "; give one picture of the batch, array[0]"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; move the channels last, array.transpose(1, 2, 0)"
    return ""


def _levels(array: _Array) -> _Array:
    """Converts the levels of an array to uint8, or to uint16 for 16-bit gray."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # in either byte order
        name = "an array of uint16"
        # Pillow cannot write 16-bit color, only 16-bit gray.
        levels = gray16(array, name)
        return levels if array.ndim == 2 else ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"an array must be uint8 (0 to 255), uint16 (0 to 65535), bool or floating point (0 to 1), not "
            f"{array.dtype}; convert it, array.astype('uint8') if its levels are 0 to 255"
        )
    return _of_floats(array)


def _of_floats(array: _Array) -> _Array:
    if not np.isfinite(array).all():
        raise ValueError("a floating-point array must be finite; this one has NaN or infinite values")
    low, high = float(array.min()), float(array.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"a floating-point array must have values of 0 to 1, but this one has {low:g} to {high:g}; "
            "divide by 255, or use uint8"
        )
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    return (wide * 255).round().clip(0, 255).astype(np.uint8)
