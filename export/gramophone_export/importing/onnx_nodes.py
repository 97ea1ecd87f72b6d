"""What single nodes of an ONNX graph say: their attributes, padding and constants."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gramophone_server.engine.architecture import Window

from ..weights import WeightsError


class UnsupportedNodeError(Exception):
    """A node cannot be used; the message says why."""


def label_of(node: onnx.NodeProto) -> str:
    """Returns how messages name a node."""
    name = node.name or (node.output[0] if node.output else "")
    return f"the node {name[:80]!r} ({node.op_type[:40]})"


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def integers(node: onnx.NodeProto, name: str) -> list[int]:
    """Returns an attribute of whole numbers; empty if the node has none."""
    return [int(number) for number in _attribute(node, name) or []]


def integer(node: onnx.NodeProto, name: str, default: int) -> int:
    """Returns an attribute that is a whole number."""
    value = _attribute(node, name)
    return default if value is None else int(value)


def text(node: onnx.NodeProto, name: str) -> str:
    """Returns an attribute that is text; empty if the node has none."""
    value = _attribute(node, name)
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def equal_sides(node: onnx.NodeProto, name: str, default: int | None) -> int:
    """Returns an attribute that has the same value along both axes."""
    values = integers(node, name) or [default or 0] * 2
    if len(values) != 2 or values[0] != values[1] or values[0] < 1:
        raise UnsupportedNodeError(f"has the {name} {values[:4]}; both axes must be alike, and at least 1")
    return values[0]


def padding_of(node: onnx.NodeProto, window: Window) -> tuple[int, int]:
    """Returns the padding before and after a map: that of the node, or the automatic one for a window."""
    automatic, pads = text(node, "auto_pad"), integers(node, "pads") or [0] * 4
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        if window.stride > 1:
            raise UnsupportedNodeError(
                f"has auto_pad {automatic} with a stride, so its padding depends on the picture's size"
            )
        total = window.extent - 1
        return (total // 2, total - total // 2) if automatic == "SAME_UPPER" else (total - total // 2, total // 2)
    if automatic == "VALID":
        return 0, 0
    if len(pads) != 4 or pads[0] != pads[1] or pads[2] != pads[3] or min(pads) < 0:
        raise UnsupportedNodeError(f"has the pads {pads[:8]}; both axes must be alike, and not negative")
    return pads[0], pads[2]


def constant_of(node: onnx.NodeProto, label: str) -> np.ndarray:
    """Returns the value of a Constant."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return array_of(attribute.t, label)
        if attribute.name.startswith("value_"):
            return np.array(helper.get_attribute_value(attribute))
    raise UnsupportedNodeError("has no value that can be used")


def array_of(tensor: onnx.TensorProto, label: str) -> np.ndarray:
    """Returns a tensor's values, in float64 if they are floating-point."""
    try:
        array: np.ndarray = numpy_helper.to_array(tensor)
        return array if array.dtype.kind in "iub" else array.astype(np.float64)
    except Exception as error:  # Damaged tensors raise errors of many kinds.
        raise WeightsError(f"{label} cannot be read; the file is damaged") from error


def per_channel(constant: np.ndarray, channels: int, axis: int) -> np.ndarray:
    """Returns a constant as one number for each channel (C,)."""
    shape = constant.shape
    if constant.size == 1 or (axis == 1 and shape == (channels,)):
        return np.broadcast_to(constant.reshape(-1), (channels,))
    if len(shape) in (3, 4) and shape[-3:] == (channels, 1, 1) and constant.size == channels:
        return constant.reshape(-1)
    raise UnsupportedNodeError(
        f"has a constant of the shape {'x'.join(map(str, shape))}, not one number for each channel"
    )
