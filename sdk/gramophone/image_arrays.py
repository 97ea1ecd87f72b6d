"""Arrays as picture files."""

from __future__ import annotations

from typing import Any

import numpy as np

_SHAPES = "(height, width, 3), (height, width, 4), (height, width, 1) or (height, width)"
# Half a level: what resizing or arithmetic leaves beyond 0 and 1 is rounded away.
_ROUNDING = 0.5 / 255
_Array = np.ndarray[Any, Any]


def from_array(image: Any) -> bytes:
    """A PNG of an array, or of what can become one, as a tensor on the CPU.

    Raises:
        TypeError: it cannot become an array.
        ValueError: it has another shape, type or range than pictures have.
    """
    from PIL import Image

    from .image_objects import png

    return png(Image.fromarray(_levels(_shaped(_array(image)))))


def gray16(image: Any, name: str) -> _Array:
    """Gray of 0 to 65535 as uint16 in the machine's own byte order.

    Raises:
        ValueError: it has other levels, or only those that are black.
    """
    array = np.asarray(image)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ValueError(f"{name} has levels of {low} to {high}; they must be 0 to 65535")
    if 0 < high <= 255:
        raise ValueError(
            f"{name} has levels of {low} to {high}, which is black where white is 65535; give 8 bits if white is 255"
        )
    return array.astype(np.uint16)


def _array(image: Any) -> _Array:
    try:
        return np.asarray(image)
    except Exception as error:
        # Of a tensor that is on a GPU, or that knows its gradient.
        kind = type(image).__name__
        reason = (str(error).splitlines() or [""])[0]
        raise TypeError(
            f"a picture of type {kind} cannot be made an array ({reason}); give a numpy array, of a torch tensor "
            "tensor.detach().cpu().permute(1, 2, 0).numpy()"
        ) from error


def _shaped(array: _Array) -> _Array:
    """An array of shape (H, W), (H, W, 3) or (H, W, 4)."""
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
    """An array as uint8, or as uint16 if it is gray of 16 bits."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # in either byte order
        name = "an array of uint16"
        # No picture file that Pillow writes or reads has 16 bits in each of several channels.
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
            f"a floating-point array must be of 0 to 1, but this one is of {low:g} to {high:g}; "
            "divide by 255, or use uint8"
        )
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    return (wide * 255).round().clip(0, 255).astype(np.uint8)
