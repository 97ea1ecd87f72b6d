"""Reads the nodes of an ONNX graph as the architecture of a convolutional network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx

from ..engine.architecture import INPUT, Architecture, Convolution, Operation, Pooling, Sum, Window

OPERATORS = ("Add", "Cast", "Conv", "MaxPool", "Relu")
"""The operators of the graphs that Gramophone writes. Average pooling is an option of requests."""
ACTIVATION = ".activation"
"""Suffix of the activation's name in layers with a head, whose output has the layer's own name."""
LINEAR = ".linear"
"""Suffix of the name of a layer's output before ReLU."""
MAX_WINDOW = 64
"""Maximum side, stride, dilation and padding of a window, which bounds what a file can ask for."""


class UnsupportedGraphError(ValueError):
    """A graph is not a convolutional network that Gramophone can use; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not a network that gramophone can use: {reason}")


@dataclass(frozen=True)
class Graph:
    """A graph that was read.

    Attributes:
        weights: names of the initializers of each convolution's kernel and bias; "" for no bias.
        heads: names of the initializers of the heads, by layer.
    """

    architecture: Architecture
    weights: dict[str, tuple[str, str]]
    heads: dict[str, str]


def read_graph(graph: onnx.GraphProto) -> Graph:
    """Reads the architecture of a graph.

    Raises:
        UnsupportedGraphError: the graph is not a network of the operations of `engine.architecture`.
    """
    try:
        return _Reader(graph).read()
    except UnsupportedGraphError:
        raise
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UnsupportedGraphError(str(error)) from error


def is_head(node: onnx.NodeProto) -> bool:
    """Returns whether a node is the head of a layer."""
    return node.op_type == "Conv" and node.input[0].endswith(ACTIVATION) and list(_ints(node, "kernel_shape")) == [1, 1]


def window_of(node: onnx.NodeProto, side: int | None = None) -> Window:
    """Returns the window of a convolution or pooling.

    Args:
        side: side of the kernel, for nodes without `kernel_shape`.

    Raises:
        UnsupportedGraphError: the window is not square, or its padding depends on the picture's size.
    """
    if _text(node, "auto_pad") not in ("", "NOTSET"):
        raise UnsupportedGraphError(f"{node.name or node.op_type} has automatic padding")
    default = [side] * 2 if side else []
    kernel, strides, dilations = (
        _square(node, *at) for at in (("kernel_shape", default), ("strides", [1, 1]), ("dilations", [1, 1]))
    )
    pads = _ints(node, "pads") or [0] * 4
    if len(pads) != 4 or pads[0] != pads[1] or pads[2] != pads[3] or min(pads) < 0 or max(pads) > MAX_WINDOW:
        raise UnsupportedGraphError(f"{node.name or node.op_type} has the padding {list(pads)[:8]}")
    return Window(kernel, strides, pads[0], pads[2], dilations, bool(_int(node, "ceil_mode")))


@dataclass
class _Reader:
    """Reads the nodes of one graph, in order."""

    graph: onnx.GraphProto
    operations: dict[str, Operation] = field(default_factory=dict)
    weights: dict[str, tuple[str, str]] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    def read(self) -> Graph:
        """Returns the graph."""
        nodes = self.graph.node
        # Name of the operation that computes a tensor.
        self._names = {INPUT: INPUT}
        self._shapes = {tensor.name: tuple(tensor.dims) for tensor in self.graph.initializer}
        self._stored = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Cast"}
        self._relus = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Relu"}
        self._readers = Counter(name for node in nodes for name in node.input)
        for node in nodes:
            self._read(node)
        architecture = Architecture(tuple(self.operations.values()))
        architecture.check_sums()
        return Graph(architecture, self.weights, self.heads)

    def _read(self, node: onnx.NodeProto) -> None:
        match node.op_type:
            case "Conv" if is_head(node):
                self._read_head(node)
            case "Conv":
                self._read_convolution(node)
            case "Add":
                first, second = (self._names[name] for name in node.input)
                name, relu = self._layer(node.output[0])
                self._add(Sum(name, (first, second), self.operations[first].outputs, relu), node.output[0])
            case "MaxPool":
                self._read_pooling(node)
            case "Relu" if node.input[0] not in self._names:
                raise UnsupportedGraphError(f"a ReLU reads {node.input[0][:50]!r}, which no layer computes")

    def _read_convolution(self, node: onnx.NodeProto) -> None:
        kernel, bias = [self._stored.get(name, name) for name in (*node.input[1:], "")][:2]
        outputs, inputs, height, width = self._shapes[kernel]
        groups = _int(node, "group") or 1
        window = window_of(node, height)
        name, relu = self._layer(node.output[0])
        if height != width or height != window.side or (bias and self._shapes[bias] != (outputs,)):
            raise UnsupportedGraphError(f"the parameters of {name} do not fit each other")
        if not 1 <= groups <= outputs or outputs % groups:
            raise UnsupportedGraphError(f"{name} has {outputs} channels in {groups} groups")
        source = self._names[node.input[0]]
        self._add(Convolution(name, source, inputs * groups, outputs, window, groups, relu), node.output[0])
        self.weights[name] = kernel, bias

    def _read_pooling(self, node: onnx.NodeProto) -> None:
        name, source, window = node.output[0], self._names[node.input[0]], window_of(node)
        if max(window.before, window.after) > window.side // 2 or window.dilation != 1:
            raise UnsupportedGraphError(f"{name} pools with a padding of more than half its window, or with a dilation")
        if window.has_empty_places:
            raise UnsupportedGraphError(f"{name} pools windows that are wholly in its padding")
        self._add(Pooling(name, source, self.operations[source].outputs, window), name)

    def _read_head(self, node: onnx.NodeProto) -> None:
        name = self._names[node.input[0]]
        operation, head = self.operations[name], self._stored.get(node.input[1], node.input[1])
        if self._shapes[head] != (operation.outputs, operation.outputs, 1, 1) or not isinstance(operation, Convolution):
            raise UnsupportedGraphError(f"the head of {name} does not fit its layer")
        self.operations[name] = replace(operation, head=True)
        self.heads[name] = head

    def _layer(self, output: str) -> tuple[str, bool]:
        """Returns the name of the layer whose value before ReLU is `output`, and whether ReLU follows."""
        relu = self._relus.get(output)
        if relu is not None and self._readers[output] > 1:
            raise UnsupportedGraphError(f"{output[:50]!r} is read before its ReLU and after it")
        return (relu or output).removesuffix(ACTIVATION), relu is not None

    def _add(self, operation: Operation, output: str) -> None:
        if operation.name in self.operations:
            raise UnsupportedGraphError(f"two operations have the name {operation.name[:50]!r}")
        self.operations[operation.name] = operation
        self._names[output] = operation.name
        self._names[self._relus.get(output, output)] = operation.name


def _square(node: onnx.NodeProto, name: str, default: Sequence[int]) -> int:
    """Returns an attribute that has the same value along both axes."""
    values = list(_ints(node, name)) or list(default)
    if len(values) != 2 or values[0] != values[1] or not 1 <= values[0] <= MAX_WINDOW:
        raise UnsupportedGraphError(f"{node.name or node.op_type} has the {name} {values[:4]}; both must be equal")
    return values[0]


def _ints(node: onnx.NodeProto, name: str) -> Sequence[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


def _int(node: onnx.NodeProto, name: str) -> int:
    return next((a.i for a in node.attribute if a.name == name), 0)


def _text(node: onnx.NodeProto, name: str) -> str:
    return next((a.s.decode(errors="replace") for a in node.attribute if a.name == name), "")
