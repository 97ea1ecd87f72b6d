"""Writes convolutional networks as ONNX graphs, reads their parameters, and truncates them to the needed layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from ..engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum, Window
from .layers import PaddingName, PoolingName
from .nodes import ACTIVATION, LINEAR, OPERATORS, UnsupportedGraphError, is_head, read_graph, window_of
from .vgg import vgg

# Old enough for all supported versions of ONNX Runtime.
OPSET = 17
IR_VERSION = 8

Weights = Mapping[str, tuple[np.ndarray, np.ndarray]]
Heads = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Parameters:
    """A network with its parameters, float32.

    Attributes:
        weights: kernel (C_out, C_in / groups, k, k) and bias (C_out,) of each convolution.
        heads: matrix (C_l, C_l) of each layer with a head.
    """

    architecture: Architecture
    weights: dict[str, tuple[np.ndarray, np.ndarray]]
    heads: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_vgg(cls, weights: Weights, heads: Heads | None = None) -> "Parameters":
        """Returns a VGG with the given weights and heads; see `vgg`."""
        return cls(vgg(weights, heads or {}), dict(weights), dict(heads or {}))


def build_graph(network: Parameters, *, half: bool = False) -> onnx.ModelProto:
    """Builds a network with the dynamic input (batch, 3, height, width) and all layers as outputs.

    The output of a layer with a head is the head times the activation after ReLU, at each position; the next operations
    read the activation itself.

    Args:
        half: whether to store the weights in float16. Computations use float32 in any case.
    """
    architecture = network.architecture
    writer = _Writer(network.weights, network.heads, half)
    for operation in architecture.operations:
        writer.add(operation)
    outputs = [
        helper.make_tensor_value_info(
            layer, TensorProto.FLOAT, ["batch", architecture[layer].outputs, f"height_{layer}", f"width_{layer}"]
        )
        for layer in architecture.layers
    ]
    picture = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, "height", "width"])
    graph = helper.make_graph(writer.nodes, "network", [picture], outputs, writer.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


class _Writer:
    """Writes the nodes and initializers of operations."""

    def __init__(self, weights: Weights, heads: Heads, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights
        self._heads = heads
        self._half = half
        # Name of the tensor that later operations read, by operation.
        self._tensors = {INPUT: INPUT}

    def add(self, operation: Convolution | Pooling | Sum) -> None:
        """Adds an operation."""
        name = operation.name
        match operation:
            case Pooling():
                window = _window_attributes(operation.window)
                node = helper.make_node("MaxPool", [self._tensors[operation.source]], [name], **window)
                if operation.window.ceil:
                    node.attribute.append(helper.make_attribute("ceil_mode", 1))
                self.nodes.append(node)
                self._tensors[name] = name
            case Convolution():
                kernel, bias = self._weights[name]
                parameters = [self._stored(name, "weight", kernel), self._stored(name, "bias", bias)]
                window = _window_attributes(operation.window)
                if operation.window.dilation > 1:
                    window["dilations"] = [operation.window.dilation] * 2
                if operation.groups > 1:
                    window["group"] = operation.groups
                self._finish("Conv", [self._tensors[operation.source], *parameters], operation, window)
            case Sum():
                self._finish("Add", [self._tensors[source] for source in operation.sources], operation, {})

    def _finish(
        self, kind: str, inputs: list[str], operation: Convolution | Sum, attributes: Mapping[str, Any]
    ) -> None:
        """Adds the node of a layer, its ReLU, and its head."""
        name = operation.name
        activation = f"{name}{ACTIVATION}" if name in self._heads else name
        output = f"{name}{LINEAR}" if operation.relu else activation
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        if operation.relu:
            self.nodes.append(helper.make_node("Relu", [output], [activation]))
        self._tensors[name] = activation
        if name in self._heads:
            head = self._stored(name, "head", self._heads[name][:, :, None, None])
            self.nodes.append(
                helper.make_node("Conv", [activation, head], [name], name=f"{name}.head", kernel_shape=[1, 1])
            )

    def _stored(self, name: str, part: str, array: np.ndarray) -> str:
        """Stores a parameter, and returns the name of its float32 tensor."""
        parameter = f"{name}.{part}"
        stored = array.astype(np.float16 if self._half else np.float32)
        self.initializers.append(numpy_helper.from_array(stored, parameter))
        if not self._half:
            return parameter
        self.nodes.append(helper.make_node("Cast", [parameter], [f"{parameter}.float32"], to=TensorProto.FLOAT))
        return f"{parameter}.float32"


def _window_attributes(window: Window) -> dict[str, Any]:
    attributes: dict[str, Any] = {"kernel_shape": [window.side] * 2}
    if window.before or window.after:
        attributes["pads"] = [window.before] * 2 + [window.after] * 2
    if window.stride > 1:
        attributes["strides"] = [window.stride] * 2
    return attributes


def load_parameters(path: Path) -> Parameters:
    """Returns the network of an ONNX file.

    Raises:
        ValueError: the file is not ONNX, or not a network that Gramophone can use.
    """
    try:
        return parameters_of(parse(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error


def parse(data: bytes) -> onnx.ModelProto:
    """Parses an ONNX file.

    Raises:
        ValueError: the bytes are not ONNX, or the graph has other operators than `build_graph` uses, or external
            weights.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise ValueError("not an ONNX file") from None
    graph = model.graph
    if len(model.functions) or len(graph.sparse_initializer) or any(i.data_location for i in graph.initializer):
        raise UnsupportedGraphError("it has functions, or weights in other files")
    if other := [node.op_type for node in graph.node if node.op_type not in OPERATORS or node.domain]:
        raise UnsupportedGraphError(f"it has the operator {other[0][:50]!r}")
    return model


def architecture_of(model: onnx.ModelProto) -> Architecture:
    """Returns the architecture of a graph.

    Raises:
        UnsupportedGraphError: the graph is not a network that Gramophone can use.
    """
    return read_graph(model.graph).architecture


def parameters_of(model: onnx.ModelProto) -> Parameters:
    """Returns the parameters of a graph, from its initializers.

    Raises:
        UnsupportedGraphError: the graph is not a network that Gramophone can use.
    """
    found = read_graph(model.graph)
    try:
        values = {t.name: numpy_helper.to_array(t).astype(np.float32, copy=False) for t in model.graph.initializer}
        weights = {
            layer: (values[kernel], values[bias] if bias else np.zeros(len(values[kernel]), np.float32))
            for layer, (kernel, bias) in found.weights.items()
        }
        return Parameters(
            found.architecture, weights, {layer: values[head][:, :, 0, 0] for layer, head in found.heads.items()}
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UnsupportedGraphError(str(error)) from error


def truncate(
    model: onnx.ModelProto, layers: Sequence[str], *, pooling: PoolingName = "max", padding: PaddingName = "zeros"
) -> onnx.ModelProto:
    """Returns the part of a graph that the outputs `layers` need, with another pooling or padding.

    ONNX Runtime computes all nodes of a session's graph even if only some outputs are requested.
    """
    cut = onnx.utils.Extractor(model).extract_model([INPUT], list(layers))
    nodes = [replacement for node in cut.graph.node for replacement in _replacement(node, pooling, padding)]
    del cut.graph.node[:]
    cut.graph.node.extend(nodes)
    if pooling == "average_rescaled":
        cut.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
    margins = {node.input[1] for node in nodes if node.op_type == "Pad"}
    for name in sorted(margins):
        before, after = map(int, name.split("_")[1:])
        values = np.array([0, 0, before, before, 0, 0, after, after], np.int64)
        cut.graph.initializer.append(numpy_helper.from_array(values, name))
    return cut


def _replacement(node: onnx.NodeProto, pooling: PoolingName, padding: PaddingName) -> list[onnx.NodeProto]:
    """Returns the nodes that replace a node for a pooling and padding."""
    nodes = [node]
    if node.op_type in ("MaxPool", "Conv") and not is_head(node) and padding == "replicate":
        window = window_of(node)
        if window.before or window.after:
            (pads,) = (attribute for attribute in node.attribute if attribute.name == "pads")
            pads.ints[:] = [0] * 4
            source, node.input[0] = node.input[0], f"{node.output[0]}.padded"
            margins = f"margins_{window.before}_{window.after}"
            nodes.insert(0, helper.make_node("Pad", [source, margins], [node.input[0]], mode="edge"))
    if node.op_type == "MaxPool" and pooling != "max":
        node.op_type = "AveragePool"
        if pooling == "average_rescaled":
            target, node.output[0] = node.output[0], f"{node.output[0]}.average"
            nodes.append(helper.make_node("Mul", [node.output[0], "two"], [target]))
    return nodes
