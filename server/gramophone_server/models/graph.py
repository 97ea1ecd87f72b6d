"""Builds the ONNX graph of a VGG from weights, reads its weights, and truncates it to the needed layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from .layers import PaddingName, PoolingName, position, stride

INPUT = "input"
"""Name of the graph's input."""
# Suffix of the activation's name in layers with a head, whose output has the layer's own name.
_ACTIVATION = ".activation"
# Old enough for all supported versions of ONNX Runtime.
OPSET = 17
IR_VERSION = 8
_OPERATORS = ("Cast", "Conv", "MaxPool", "Relu")

Weights = Mapping[str, tuple[np.ndarray, np.ndarray]]
Heads = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Parameters:
    """The parameters of a graph, float32.

    Attributes:
        weights: kernel (C_out, C_in, 3, 3) and bias (C_out,) of each layer.
        heads: matrix (C_l, C_l) of each layer with a head.
    """

    weights: dict[str, tuple[np.ndarray, np.ndarray]]
    heads: dict[str, np.ndarray]


@dataclass(frozen=True)
class Shapes:
    """The shapes of a graph's parameters: kernel and bias of each layer, and the heads of layers with a head."""

    weights: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    heads: dict[str, tuple[int, ...]]


def build_vgg(weights: Weights, heads: Heads | None = None, *, half: bool = False) -> onnx.ModelProto:
    """Builds a VGG with the dynamic input (batch, 3, height, width) and all layers after ReLU as outputs.

    Args:
        weights: kernel (C_out, C_in, 3, 3) and bias (C_out,) of each layer; each block but the first begins with 2x2
            pooling. If the first kernel is (C_out, 3, 6, 6), it has a stride of 2 and block 2 has no pooling.
        heads: for some layers a matrix (C_l, C_l). The layer's output is the matrix times the activation after ReLU,
            at each position; the next convolution gets the activation itself.
        half: whether to store the weights in float16. Computations use float32 in any case.
    """
    heads = heads or {}
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    outputs: list[onnx.ValueInfoProto] = []
    x, reached = INPUT, 1
    for name in sorted(weights, key=position):
        side, step = weights[name][0].shape[2], kernel_stride(weights[name][0])
        if stride(name) > step * reached:
            nodes.append(_pool(x, f"pool{position(name)[0] - 1}"))
            x = nodes[-1].output[0]
        reached = max(step * reached, stride(name))
        arrays = dict(zip(("weight", "bias"), weights[name], strict=True))
        if name in heads:
            arrays["head"] = heads[name][:, :, None, None]
        parameters = []
        for part, array in arrays.items():
            parameter = f"{name}.{part}"
            stored = array.astype(np.float16 if half else np.float32)
            initializers.append(numpy_helper.from_array(stored, parameter))
            if half:
                nodes.append(helper.make_node("Cast", [parameter], [f"{parameter}.float32"], to=TensorProto.FLOAT))
                parameter += ".float32"
            parameters.append(parameter)
        head = [parameters.pop()] if name in heads else []
        convolution = helper.make_node(
            "Conv", [x, *parameters], [f"{name}.linear"], name=name, kernel_shape=[side] * 2, pads=[step] * 4
        )
        if step > 1:
            convolution.attribute.append(helper.make_attribute("strides", [step] * 2))
        nodes.append(convolution)
        activation = f"{name}{_ACTIVATION}" if head else name
        nodes.append(helper.make_node("Relu", [f"{name}.linear"], [activation]))
        if head:
            product = helper.make_node("Conv", [activation, *head], [name], name=f"{name}.head", kernel_shape=[1, 1])
            nodes.append(product)
        block = position(name)[0]
        dimensions = ["batch", weights[name][0].shape[0], f"height{block}", f"width{block}"]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions))
        x = activation
    picture = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, "height", "width"])
    graph = helper.make_graph(nodes, "vgg", [picture], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def kernel_stride(kernel: np.ndarray) -> int:
    """Returns the stride of a convolution with a kernel (C_out, C_in, k, k): 1 for 3x3, 2 for 6x6."""
    return int(kernel.shape[2]) // 3


def load_weights(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kernels and biases of an ONNX file; see `load_parameters`."""
    return load_parameters(path).weights


def load_parameters(path: Path) -> Parameters:
    """Returns the parameters of an ONNX file, from its initializers.

    Raises:
        ValueError: the graph does not have the form that `build_vgg` makes.
    """
    try:
        return parameters_of(parse(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error


def parse(data: bytes) -> onnx.ModelProto:
    """Parses an ONNX file.

    Raises:
        ValueError: the bytes are not ONNX, or the graph has other operators than `build_vgg` uses, or external weights.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise ValueError("not an ONNX file") from None
    graph = model.graph
    if len(model.functions) or len(graph.sparse_initializer) or any(i.data_location for i in graph.initializer):
        raise ValueError("not a VGG as `gramophone export` writes it: it has functions, or weights in other files")
    if other := [node.op_type for node in graph.node if node.op_type not in _OPERATORS or node.domain]:
        raise ValueError(f"not a VGG as `gramophone export` writes it: it has the operator {other[0][:50]!r}")
    return model


def parameters_of(model: onnx.ModelProto) -> Parameters:
    """Returns the parameters of a graph, from its initializers.

    Raises:
        ValueError: the graph does not have the form that `build_vgg` makes.
    """
    weights, heads = _initializers(model)
    try:
        values = {t.name: numpy_helper.to_array(t).astype(np.float32, copy=False) for t in model.graph.initializer}
        return Parameters(
            weights={layer: (values[kernel], values[bias]) for layer, (kernel, bias) in weights.items()},
            heads={layer: values[head][:, :, 0, 0] for layer, head in heads.items()},
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"not a VGG as `gramophone export` writes it: {error}") from error


def shapes_of(model: onnx.ModelProto) -> Shapes:
    """Returns the shapes of a graph's parameters.

    Raises:
        ValueError: the graph does not have the form that `build_vgg` makes.
    """
    weights, heads = _initializers(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    try:
        return Shapes(
            weights={layer: (shapes[kernel], shapes[bias]) for layer, (kernel, bias) in weights.items()},
            heads={layer: shapes[head] for layer, head in heads.items()},
        )
    except KeyError as error:
        raise ValueError(f"not a VGG as `gramophone export` writes it: {error}") from error


def _initializers(model: onnx.ModelProto) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Returns (names of kernel and bias by layer, name of the head by layer)."""
    nodes = model.graph.node
    try:
        stored = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Cast"}
        layers = {node.input[0]: node.output[0].removesuffix(_ACTIVATION) for node in nodes if node.op_type == "Relu"}
        convolutions = [node for node in nodes if node.op_type == "Conv"]
        names = [[stored.get(name, name) for name in node.input[1:]] for node in convolutions]
        weights = {
            layers[node.output[0]]: (parts[0], parts[1])
            for node, parts in zip(convolutions, names, strict=True)
            if not _is_head(node)
        }
        heads = {node.output[0]: parts[0] for node, parts in zip(convolutions, names, strict=True) if _is_head(node)}
    except (KeyError, IndexError) as error:
        raise ValueError(f"not a VGG as `gramophone export` writes it: {error}") from error
    return weights, heads


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
    if padding == "replicate":
        for width in (1, 2):
            edges = np.array([0, 0, width, width] * 2, np.int64)
            cut.graph.initializer.append(numpy_helper.from_array(edges, f"edges{width}"))
    return cut


def _replacement(node: onnx.NodeProto, pooling: PoolingName, padding: PaddingName) -> list[onnx.NodeProto]:
    """Returns the nodes that replace a node for a pooling and padding."""
    if node.op_type == "MaxPool" and pooling != "max":
        node.op_type = "AveragePool"
        if pooling == "average_rescaled":
            target, node.output[0] = node.output[0], f"{node.output[0]}.average"
            return [node, helper.make_node("Mul", [node.output[0], "two"], [target])]
    if node.op_type == "Conv" and padding == "replicate" and not _is_head(node):
        source, node.input[0] = node.input[0], f"{node.output[0]}.padded"
        (pads,) = (attribute for attribute in node.attribute if attribute.name == "pads")
        edges, pads.ints[:] = f"edges{pads.ints[0]}", [0] * 4
        return [helper.make_node("Pad", [source, edges], [node.input[0]], mode="edge"), node]
    return [node]


def _is_head(node: onnx.NodeProto) -> bool:
    return any(a.name == "kernel_shape" and list(a.ints) == [1, 1] for a in node.attribute)


def _pool(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("MaxPool", [source], [target], kernel_shape=[2, 2], strides=[2, 2])
