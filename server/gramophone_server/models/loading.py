"""Loads models and checks that their files match their manifests."""

import onnx

from .graph import Parameters, Shapes, parameters_of, parse, shapes_of
from .manifest import Layer
from .model import Model, ModelError


def load_graph(model: Model) -> onnx.ModelProto:
    """Returns the model's graph; the file is checked against the manifest's SHA-256 and layers.

    Raises:
        ModelError: the file cannot be read, has another SHA-256, or is not a VGG with the manifest's layers.
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
        if not _matches(layer, channels, shapes):
            reason = f"its file model.onnx has no layer {layer.name} as its manifest describes it"
            raise ModelError(model.manifest.name, reason)
        channels = layer.channels
    return graph


def load_network(model: Model) -> Parameters:
    """Returns the model's parameters; the file is checked as in `load_graph`.

    Raises:
        ModelError: as `load_graph`.
    """
    graph = load_graph(model)
    try:
        return parameters_of(graph)
    except ValueError as error:
        raise ModelError(model.manifest.name, f"its file model.onnx is {error}") from error


def _matches(layer: Layer, channels: int, shapes: Shapes) -> bool:
    """Returns whether the graph has a layer with the manifest's shapes and `channels` input channels."""
    n = layer.channels
    kernel, bias = shapes.weights.get(layer.name, ((), ()))
    head = shapes.heads.get(layer.name)
    square = (n, n, 1, 1) if layer.head else None
    return kernel in ((n, channels, 3, 3), (n, channels, 6, 6)) and bias == (n,) and head == square
