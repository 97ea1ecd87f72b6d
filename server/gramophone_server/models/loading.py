"""Loads models and checks that their files match their manifests."""

import onnx

from ..engine.architecture import Architecture, Convolution
from .graph import Parameters, architecture_of, parameters_of, parse
from .manifest import Manifest
from .model import Model, ModelError

# Architectures by the SHA-256 of their files, and how many are kept.
_architectures: dict[str, Architecture] = {}
_KEPT = 16


def load_graph(model: Model) -> onnx.ModelProto:
    """Returns the model's graph; the file is checked against the manifest's SHA-256 and layers.

    Raises:
        ModelError: the file cannot be read, has another SHA-256, or is not a network with the manifest's layers.
    """
    try:
        graph = parse(model.read())
        architecture = architecture_of(graph)
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(model.manifest.name, f"its file model.onnx is {error}") from error
    _check_layers(model.manifest, architecture)
    return graph


def load_network(model: Model) -> Parameters:
    """Returns the model's architecture and parameters; the file is checked as in `load_graph`.

    Raises:
        ModelError: as `load_graph`.
    """
    graph = load_graph(model)
    try:
        return parameters_of(graph)
    except ValueError as error:
        raise ModelError(model.manifest.name, f"its file model.onnx is {error}") from error


def load_architecture(model: Model) -> Architecture:
    """Returns the model's architecture; the architectures of the last models are kept.

    Raises:
        ModelError: as `load_graph`.
    """
    sha256 = model.manifest.sha256
    if sha256 not in _architectures:
        while len(_architectures) >= _KEPT:
            _architectures.pop(next(iter(_architectures)))
        _architectures[sha256] = architecture_of(load_graph(model))
    _check_layers(model.manifest, _architectures[sha256])
    return _architectures[sha256]


def _check_layers(manifest: Manifest, architecture: Architecture) -> None:
    """Raises ModelError if the network does not have the manifest's layers, in this order."""
    order = architecture.layers
    places = [order.index(layer.name) if layer.name in order else -1 for layer in manifest.layers]
    for place, layer in zip(places, manifest.layers, strict=True):
        operation = None if place < 0 else architecture[layer.name]
        if (
            operation is None
            or operation.outputs != layer.channels
            or architecture.stride(layer.name) != layer.stride
            or architecture.min_side(layer.name) != layer.min_side
            or (isinstance(operation, Convolution) and operation.head) != layer.head
        ):
            reason = f"its file model.onnx has no layer {layer.name} as its manifest describes it"
            raise ModelError(manifest.name, reason)
    if places != sorted(places):
        raise ModelError(manifest.name, "the layers of its manifest are not in the order of its file model.onnx")
