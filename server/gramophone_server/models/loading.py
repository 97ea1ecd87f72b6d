"""Loads a model that is what its manifest says, or says why it is not."""

import onnx

from .graph import Parameters, Shapes, parameters_of, parse, shapes_of
from .manifest import Layer
from .model import Model, ModelError


def load_graph(model: Model) -> onnx.ModelProto:
    """The model's graph, of the very bytes that its manifest names.

    Raises:
        ModelError: the file cannot be read, is another, or is no graph of a VGG with the manifest's layers.
    """
    try:
        graph = parse(model.read())
        shapes = shapes_of(graph)
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(model.manifest.name, f"its file model.onnx is {error}") from error
    channels = 3
    for layer in model.manifest.layers:
        if not _is_there(layer, channels, shapes):
            reason = f"its file model.onnx has no layer {layer.name} as its manifest describes it"
            raise ModelError(model.manifest.name, reason)
        channels = layer.channels
    return graph


def load_network(model: Model) -> Parameters:
    """The model's parameters, of the very bytes that its manifest names.

    Raises:
        ModelError: as `load_graph`.
    """
    graph = load_graph(model)
    try:
        return parameters_of(graph)
    except ValueError as error:
        raise ModelError(model.manifest.name, f"its file model.onnx is {error}") from error


def _is_there(layer: Layer, channels: int, shapes: Shapes) -> bool:
    """Whether there is such a layer, which takes so many channels."""
    n = layer.channels
    kernel, bias = shapes.weights.get(layer.name, ((), ()))
    head = shapes.heads.get(layer.name)
    square = (n, n, 1, 1) if layer.head else None
    return kernel in ((n, channels, 3, 3), (n, channels, 6, 6)) and bias == (n,) and head == square
