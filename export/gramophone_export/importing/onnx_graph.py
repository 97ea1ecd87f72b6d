"""Reads a convolutional network from the nodes of any ONNX graph.

Each tensor gets a value: a constant, the picture, the output of an operation, or something that cannot be used. What
follows the last convolution, such as a classifier, is cut off.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from gramophone_server.engine.architecture import Window
from gramophone_server.models.nodes import MAX_WINDOW

from ..weights import WeightsError
from .draft import Draft, finished, pointwise
from .imported import Imported
from .onnx_file import open_onnx
from .onnx_nodes import (
    UnsupportedNodeError,
    array_of,
    constant_of,
    equal_sides,
    integer,
    integers,
    label_of,
    padding_of,
    per_channel,
    text,
)

_ALIASES = ("Identity", "Dropout", "Cast")
# Their outputs have no positions: the beginning of a classifier.
_POOLED = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")
_TAIL = (*_POOLED, "Flatten", "Reshape", "Gemm", "MatMul", "Softmax", "LogSoftmax", "Squeeze", "Shape")
_ARITHMETIC: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}
_KNOWN = "Conv, Relu, MaxPool, AveragePool, BatchNormalization, Add, Pad, Dropout, and arithmetic with constants"
_MAX_PRODUCT = 1 << 28


@dataclass(frozen=True)
class _Picture:
    """The network's input, of which each channel is multiplied by `scale` (3,) and `shift` (3,) is added."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class _Map:
    """The output of an operation, padded by zeros."""

    draft: Draft
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class _Tail:
    """A value without positions; `pooled` if the node `label` averaged the positions, as a classifier does first."""

    label: str
    pooled: bool


@dataclass(frozen=True)
class _Unusable:
    """A value that cannot be used; `reason` says why, as a sentence that names a node."""

    reason: str


_Value = np.ndarray | _Picture | _Map | _Tail | _Unusable


def read_onnx(path: Path, layers: Sequence[str] = ()) -> Imported:
    """Reads a network from an ONNX file.

    Args:
        layers: names of the layers to offer, and the network ends at the deepest; empty for all layers.

    Raises:
        WeightsError: the file cannot be read, is not a convolutional network, or has no such layer.
    """
    try:
        return _Reader(open_onnx(path).graph).read(layers)
    except WeightsError as error:
        message = str(error)
        raise WeightsError(message if str(path) in message else f"{path}: {message}") from error


class _Reader:
    """Reads one graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._values: dict[str, _Value] = {}
        self._drafts: list[Draft] = []
        self._picture: _Picture | None = None
        # Reasons why convolutions cannot be used, and the first nodes that are cut off.
        self._lost: list[str] = []
        self._tails: list[str] = []
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._uses = Counter(name for node in graph.node if node.op_type != "Shape" for name in node.input)
        self._uses.update(output.name for output in graph.output)
        for node in reversed(graph.node):
            if node.op_type in _ALIASES and node.input and node.output:
                self._uses[node.input[0]] += self._uses[node.output[0]] - 1

    def read(self, layers: Sequence[str]) -> Imported:
        """Returns the network."""
        self._read_inputs()
        for node in self._graph.node:
            self._read_node(node)
        if not any(draft.kernel is not None for draft in self._drafts):
            raise WeightsError(self._lost[0] if self._lost else "has no convolution that reads the picture")
        outputs = [output.name for output in self._graph.output]
        for draft in self._drafts:
            draft.names.sort(key=lambda name: name not in outputs)
        return self._finished(layers)

    def _finished(self, layers: Sequence[str]) -> Imported:
        if self._lost and not layers:
            count = len(self._lost)
            after = f"{count} convolution{'s' * (count > 1)}"
            raise WeightsError(
                f"{self._lost[0]}, and {after} cannot be used because of it; choose layers before it with --layers to "
                f"import the network up to there{self._example()}"
            )
        drafts = _needed(self._drafts, [draft for draft in self._drafts if draft.kernel is not None])
        network, pooling, names = finished(drafts)
        known = list(names.values())
        if missing := [name for name in layers if name not in known]:
            some = ", ".join(known[:40]) + (", and more" if len(known) > 40 else "")
            lost = f"; {self._lost[0]}" if self._lost else ""
            raise WeightsError(f"has no layer {missing[0]!r}; its layers are {some}{lost}")
        offered = tuple(name for name in known if name in layers or not layers)
        network = replace(network, architecture=network.architecture.upto(offered))
        picture = self._picture
        assert picture is not None
        notes = (
            [f"the network ends at {offered[-1]}: {self._tails[0]} and what follows is cut off"] if self._tails else []
        )
        scale, shift = (tuple(float(number) for number in part) for part in (picture.scale, picture.shift))
        return Imported(network, offered, "a network", pooling, scale, shift, notes)

    def _example(self) -> str:
        """Returns the name of the last layer that can be used, as an example."""
        try:
            names = finished(_needed(self._drafts, [draft for draft in self._drafts if draft.kernel is not None]))[2]
        except WeightsError:
            return ""
        return f", for example --layers {list(names.values())[-1]}"

    def _read_inputs(self) -> None:
        inputs = [value for value in self._graph.input if value.name not in self._tensors]
        for value in inputs:
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            self._values[value.name] = _Picture(np.ones(3), np.zeros(3))
            if value.type.tensor_type.HasField("shape") and (len(shape) != 4 or shape[1] not in (0, 3)):
                size = "x".join(str(length or "?") for length in shape)
                reason = (
                    f"its input {value.name[:50]!r} has the shape {size}, but a network reads batches of pictures, "
                )
                hint = ": export it with channels first" if len(shape) == 4 and shape[3] == 3 else ""
                self._values[value.name] = _Unusable(f"{reason}?x3x?x?{hint}")

    def _read_node(self, node: onnx.NodeProto) -> None:
        label = label_of(node)
        for name in node.output:
            if name in self._values or name in self._tensors:
                raise WeightsError(f"{label} computes {name[:50]!r}, which another node computes already")
        try:
            value = self._value(node, label)
        except UnsupportedNodeError as error:
            value = _Unusable(f"{label} {error}")
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
            value = _Unusable(f"{label} is damaged: {str(error).splitlines()[0][:100] if str(error) else 'no reason'}")
        if isinstance(value, _Unusable) and node.op_type == "Conv":
            self._lost.append(value.reason)
        if isinstance(value, _Tail | _Unusable):
            self._tails.append(label)
        for name in node.output[:1]:
            self._values[name] = value
            if isinstance(value, _Map) and not value.before and not value.after:
                value.draft.names.append(name)
        for name in node.output[1:]:
            self._values[name] = _Unusable(f"{label} has more than one output")

    def _value(self, node: onnx.NodeProto, label: str) -> _Value:
        """Returns the value of a node's first output."""
        if node.op_type == "Constant":
            return constant_of(node, label)
        first = self._input(node.input[0], label) if node.input else _Unusable(f"{label} has no input")
        if isinstance(first, _Tail):
            if node.op_type == "Conv" and not first.pooled:
                raise UnsupportedNodeError(f"reads what {first.label} has reshaped")
            return first
        if node.op_type in _TAIL and not isinstance(first, np.ndarray | _Unusable):
            return _Tail(label, node.op_type in _POOLED)
        inputs = [first, *(self._input(name, label) for name in node.input[1:] if name)]
        if broken := [value for value in inputs if isinstance(value, _Unusable)]:
            return broken[0]
        if all(isinstance(value, np.ndarray) for value in inputs):
            return _folded(node, [value for value in inputs if isinstance(value, np.ndarray)])
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedNodeError(f"is an operator of the domain {node.domain[:50]!r}, which is not ONNX's")
        if any(isinstance(value, _Tail) for value in inputs):
            raise UnsupportedNodeError("combines a feature map with values without positions")
        if node.op_type in _ALIASES:
            return first
        method = _METHODS.get(node.op_type)
        if method is None:
            raise UnsupportedNodeError(f"is not an operator that gramophone can use, which are {_KNOWN}")
        return method(self, node, label, inputs)

    def _input(self, name: str, label: str) -> _Value:
        if name in self._tensors:
            # Weights of classifiers are never converted: they can be larger than all others.
            return array_of(self._tensors[name], f"the weights {name[:50]!r}")
        if name not in self._values:
            raise WeightsError(f"{label} reads {name[:50]!r}, which no node before it computes; the file is damaged")
        return self._values[name]

    def _convolution(self, node: onnx.NodeProto, label: str, inputs: list[_Value]) -> _Value:
        source, kernel, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        if not isinstance(kernel, np.ndarray) or not (bias is None or isinstance(bias, np.ndarray)):
            raise UnsupportedNodeError("has weights that other nodes compute; export the network with constant weights")
        if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] or not kernel.size:
            raise UnsupportedNodeError(
                f"has a kernel of {'x'.join(map(str, kernel.shape))}; only square windows can be used"
            )
        outputs, groups = len(kernel), integer(node, "group", 1)
        bias = np.zeros(outputs) if bias is None else bias
        inner = 3 if isinstance(source, _Picture) else source.draft.outputs if isinstance(source, _Map) else 0
        if not 1 <= groups <= outputs or outputs % groups or kernel.shape[1] * groups != inner:
            raise UnsupportedNodeError(
                f"has a kernel of {'x'.join(map(str, kernel.shape))} in {groups} groups for {inner} channels"
            )
        if bias.shape != (outputs,):
            raise UnsupportedNodeError(f"has a bias of {'x'.join(map(str, bias.shape))} for {outputs} channels")
        window = _window(node, kernel.shape[2], source)
        if isinstance(source, _Picture):
            self._take(source)
        draft = self._add(Draft(label, outputs, (_draft(source),), [node.name], window, kernel, bias, groups))
        draft.names.append(_module(node.input[1]))
        return _Map(draft)

    def _take(self, picture: _Picture) -> None:
        if min(picture.scale) <= 0 or not np.isfinite([picture.scale, picture.shift]).all():
            raise UnsupportedNodeError("reads the picture with a factor that is not positive")
        first = self._picture or picture
        if not (np.array_equal(first.scale, picture.scale) and np.array_equal(first.shift, picture.shift)):
            raise UnsupportedNodeError("reads the picture with another normalization than the first convolution")
        self._picture = first

    def _pooling(self, node: onnx.NodeProto, label: str, inputs: list[_Value]) -> _Value:
        source = inputs[0]
        if not isinstance(source, _Map):
            raise UnsupportedNodeError("pools the picture itself; only convolutions can read it")
        average = node.op_type == "AveragePool"
        counts = integer(node, "count_include_pad", 0) == 1
        if source.before or source.after:
            if not average and not source.draft.is_rectified:
                raise UnsupportedNodeError("pools a padded map with negative values")
            counts = True
        window = replace(_window(node, None, source), ceil=integer(node, "ceil_mode", 0) == 1)
        if window.dilation != 1 or max(window.before, window.after) > window.side // 2:
            raise UnsupportedNodeError("has a dilation, or a padding of more than half its window")
        if window.has_empty_places or (average and not counts and window.before != window.after):
            raise UnsupportedNodeError("has padding at one side only, or windows that are wholly in the padding")
        draft = Draft(
            label, source.draft.outputs, (source.draft,), [node.name], window, average=average, counts_padding=counts
        )
        return _Map(self._add(draft))

    def _relu(self, node: onnx.NodeProto, label: str, inputs: list[_Value]) -> _Value:
        if node.op_type == "Clip" and not _is_relu(node, inputs):
            raise UnsupportedNodeError("clips values; only ReLU, which clips to 0 or more, can be used")
        source = self._whole(inputs[0])
        if source.is_rectified:
            return _Map(source)
        if source.is_pooling or source.relu or self._uses[node.input[0]] > 1:
            # Another node reads the value before ReLU.
            ones = np.ones(source.outputs)
            source = self._add(pointwise(source, label, ones, 0 * ones))
            source.names.append(node.name)
        source.relu = True
        return _Map(source)

    def _normalization(self, node: onnx.NodeProto, label: str, inputs: list[_Value]) -> _Value:
        parameters = [value for value in inputs[1:] if isinstance(value, np.ndarray)]
        if len(parameters) != 4 or integer(node, "training_mode", 0) or not integer(node, "spatial", 1):
            raise UnsupportedNodeError("has parameters that are not constant; export the network in evaluation mode")
        gamma, beta, mean, variance = parameters
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        return self._affine(node, label, inputs[0], factor, beta - mean * factor)

    def _arithmetic(self, node: onnx.NodeProto, label: str, inputs: list[_Value]) -> _Value:
        first, second = inputs
        if isinstance(first, _Map) and isinstance(second, _Map):
            return self._sum(node, label, self._whole(first), self._whole(second))
        constant, other = (first, second) if isinstance(first, np.ndarray) else (second, first)
        if not isinstance(constant, np.ndarray):
            raise UnsupportedNodeError("combines the picture with a feature map")
        channels = 3 if isinstance(other, _Picture) else self._whole(other).outputs
        number = per_channel(constant, channels, integer(node, "axis", -1))
        one, zero = np.ones(channels), np.zeros(channels)
        match node.op_type:
            case "Add":
                return self._affine(node, label, other, one, number)
            case "Sub":
                return self._affine(node, label, other, *((-one, number) if other is second else (one, -number)))
            case "Div" if other is second:
                raise UnsupportedNodeError("divides a constant by a feature map")
            case "Div":
                return self._affine(node, label, other, one / number, zero)
        return self._affine(node, label, other, number, zero)

    def _sum(self, node: onnx.NodeProto, label: str, first: Draft, second: Draft) -> _Value:
        if node.op_type != "Add":
            raise UnsupportedNodeError("combines two feature maps; only their sum (Add) can be used")
        if first.outputs != second.outputs:
            raise UnsupportedNodeError(f"adds feature maps of {first.outputs} and {second.outputs} channels")
        return _Map(self._add(Draft(label, first.outputs, (first, second), [node.name])))

    def _affine(
        self, node: onnx.NodeProto, label: str, source: _Value, factor: np.ndarray, offset: np.ndarray
    ) -> _Value:
        """Returns `factor · x + offset` for each channel; folded into the picture or the convolution if possible."""
        if isinstance(source, _Picture):
            return _Picture(source.scale * factor, source.shift * factor + offset)
        draft = self._whole(source)
        if factor.shape != (draft.outputs,) or offset.shape != factor.shape:
            raise UnsupportedNodeError(f"has {factor.size} parameters for {draft.outputs} channels")
        uses = max(self._uses[name] for name in node.input if self._values.get(name) is source)
        if draft.kernel is None or draft.relu or uses > 1:
            draft = self._add(pointwise(draft, label, factor, offset))
            draft.names.append(node.name)
        else:
            draft.scale(factor, offset)
        return _Map(draft)

    def _pad(self, node: onnx.NodeProto, label: str, inputs: list[_Value]) -> _Value:
        source = inputs[0]
        if not isinstance(source, _Map):
            raise UnsupportedNodeError(
                "pads the picture before it is normalized; give the first convolution the padding"
            )
        mode, given = text(node, "mode") or "constant", inputs[1] if len(inputs) > 1 else None
        value = (
            inputs[2] if len(inputs) > 2 else np.array(next((a.f for a in node.attribute if a.name == "value"), 0.0))
        )
        pads = [int(p) for p in given] if isinstance(given, np.ndarray) else integers(node, "pads")
        if mode != "constant" or not isinstance(value, np.ndarray) or np.any(value):
            raise UnsupportedNodeError("pads by other values than zeros; use the option padding of requests instead")
        if len(pads) != 8 or pads[:2] + pads[4:6] != [0] * 4 or pads[2] != pads[3] or pads[6] != pads[7]:
            raise UnsupportedNodeError(f"has the padding {pads[:8]}, which differs between the axes")
        if min(pads) < 0:
            raise UnsupportedNodeError("cuts off the edge")
        return replace(source, before=source.before + pads[2], after=source.after + pads[6])

    def _whole(self, value: _Value) -> Draft:
        """Returns the operation of a feature map without padding."""
        if not isinstance(value, _Map):
            raise UnsupportedNodeError("reads the picture itself; only convolutions can")
        if value.before or value.after:
            raise UnsupportedNodeError("reads a padded feature map; only convolutions and poolings can")
        return value.draft

    def _add(self, draft: Draft) -> Draft:
        self._drafts.append(draft)
        return draft


_METHODS: dict[str, Callable[[_Reader, onnx.NodeProto, str, list[_Value]], _Value]] = {
    "Conv": _Reader._convolution,
    "MaxPool": _Reader._pooling,
    "AveragePool": _Reader._pooling,
    "Relu": _Reader._relu,
    "Clip": _Reader._relu,
    "BatchNormalization": _Reader._normalization,
    "Pad": _Reader._pad,
    **dict.fromkeys(_ARITHMETIC, _Reader._arithmetic),
}


def _needed(drafts: Sequence[Draft], wanted: Sequence[Draft]) -> list[Draft]:
    """Returns the operations that some operations need, and sums of what they need, in order."""
    needed: set[Draft] = set(wanted)
    for draft in reversed(drafts):
        if draft in needed:
            needed.update(source for source in draft.sources if source is not None)
    for draft in drafts:
        if draft.kernel is None and draft.window is None and all(source in needed for source in draft.sources):
            needed.add(draft)
    return [draft for draft in drafts if draft in needed]


def _window(node: onnx.NodeProto, side: int | None, source: _Value) -> Window:
    """Returns the window of a convolution with a kernel of `side`, or of a pooling."""
    kernel = equal_sides(node, "kernel_shape", side)
    if side is not None and kernel != side:
        raise UnsupportedNodeError(f"has the kernel_shape {kernel}, but a kernel of {side}x{side}")
    stride, dilation = equal_sides(node, "strides", 1), equal_sides(node, "dilations", 1)
    before, after = padding_of(node, Window(kernel, stride, dilation=dilation))
    if isinstance(source, _Map):
        before, after = before + source.before, after + source.after
    window = Window(kernel, stride, before, after, dilation)
    if max(kernel, stride, dilation) > MAX_WINDOW:
        raise UnsupportedNodeError(f"has a window, a stride or a dilation of more than {MAX_WINDOW}")
    if max(before, after) >= window.extent:
        raise UnsupportedNodeError(f"has a padding of {max(before, after)}, which is not smaller than its window")
    return window


def _is_relu(node: onnx.NodeProto, inputs: list[_Value]) -> bool:
    """Returns whether a Clip has the minimum 0 and no maximum."""
    bounds = {a.name: a.f for a in node.attribute}
    for name, place in (("min", 1), ("max", 2)):
        if len(node.input) > place and node.input[place]:
            value = inputs[place if place == 1 or node.input[1] else 1]
            bounds[name] = float(value.item()) if isinstance(value, np.ndarray) else np.nan
    return bounds.get("min") == 0 and bounds.get("max", np.inf) > 1e30


def _folded(node: onnx.NodeProto, inputs: list[np.ndarray]) -> _Value:
    """Returns the value of a node whose inputs are all constants."""
    first = inputs[0]
    match node.op_type:
        case "Identity" | "Cast" | "Dropout":
            return first.astype(np.float64)
        case "Add" | "Sub" | "Mul" | "Div" if max(i.size for i in inputs) < _MAX_PRODUCT and len(inputs) == 2:
            return _ARITHMETIC[node.op_type](first, inputs[1])
        case "Unsqueeze":
            axes = [int(axis) for axis in inputs[1]] if len(inputs) > 1 else integers(node, "axes")
            return np.expand_dims(first, tuple(axes))
        case "Reshape" if len(inputs) == 2:
            return first.reshape([int(length) for length in inputs[1]])
        case "Transpose":
            return first.transpose(integers(node, "perm") or None)
    return _Unusable(f"{label_of(node)} computes a constant; simplify the model, for example with onnxsim")


def _module(parameter: str) -> str:
    """Returns the module's name in the name of a parameter, such as "features.0" for "features.0.weight"."""
    return parameter.removesuffix(".weight").removesuffix("/kernel") if "." in parameter or "/" in parameter else ""


def _draft(value: _Value) -> Draft | None:
    return value.draft if isinstance(value, _Map) else None
