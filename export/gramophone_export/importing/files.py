"""Reads a network from a file of any kind that can be imported."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..kinds import ONNX, kind_of
from ..weights import WeightsError
from .imported import Imported
from .onnx_graph import read_onnx
from .state_dict import read_state_dict

_MAX_LAYERS, _MAX_STRIDE, _MAX_LEAST = 256, 512, 2048


def read_network(path: Path, layers: Sequence[str] = ()) -> Imported:
    """Reads a network from a state dict of a known family, or from an ONNX file.

    Args:
        layers: names of the layers to offer; the network ends at the deepest. Empty for all layers.

    Raises:
        WeightsError: the file is of another kind, is not a network that can be used, or has no such layer.
    """
    found = read_onnx(path, layers) if _is_onnx(path) else _chosen(path, read_state_dict(path), layers)
    architecture = found.network.architecture
    if len(found.layers) > _MAX_LAYERS:
        raise WeightsError(
            f"{path} has {len(found.layers)} layers, but {_MAX_LAYERS} are the most; choose some with --layers"
        )
    for layer in found.layers:
        try:
            stride, least = architecture.stride(layer), architecture.min_side(layer)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}; name shallower layers with --layers") from error
        if stride > _MAX_STRIDE or least > _MAX_LEAST:
            raise WeightsError(
                f"{path}: {layer} has a stride of {stride} pixels and needs pictures of {least} pixels a side, but "
                f"{_MAX_STRIDE} and {_MAX_LEAST} are the most; name shallower layers with --layers"
            )
    return found


def _is_onnx(path: Path) -> bool:
    try:
        kind = kind_of(path)
    except OSError:
        kind = None
    return kind == ONNX or (kind is None and path.suffix.lower() == ".onnx")


def _chosen(path: Path, found: Imported, layers: Sequence[str]) -> Imported:
    """Returns a network with some of its layers."""
    if missing := [layer for layer in layers if layer not in found.layers]:
        known = ", ".join(found.layers)
        raise WeightsError(f"{path} holds {found.what}, which has no layer {missing[0]!r}; its layers are {known}")
    if not layers:
        return found
    network = replace(found.network, architecture=found.network.architecture.upto(layers))
    return replace(found, network=network, layers=tuple(layer for layer in found.layers if layer in layers))
