"""Reads the layers of requests, and checks that pictures are large enough for them."""

from collections.abc import Sequence

from gramophone.v1 import options_pb2

from ..messages.spec import LayerWeight
from ..models.layers import canonical_layer
from ..models.manifest import Manifest
from ..rpc.violations import Checker
from .rules import read_field

# Maximum number of a model's layers that a message lists.
_SHOWN_LAYERS = 50


def read_layers(
    layers: Sequence[options_pb2.LayerWeight],
    field: str,
    default: Sequence[str],
    weight: float | None,
    manifest: Manifest,
    check: Checker,
    *,
    name_field: str = ".layer",
) -> tuple[LayerWeight, ...]:
    """Reads layers with their weights, and adds violations to `check`.

    Args:
        field: path of the layers in the request.
        default: names of the layers if the request has none.
        weight: weight of a layer that sets none; None for 1 / number of layers.
        name_field: path of a layer's name below the layer.
    """
    if not layers:
        layers = [options_pb2.LayerWeight(layer=name) for name in default]
    known = [layer.name for layer in manifest.layers]
    read: list[LayerWeight] = []
    for i, layer in enumerate(layers):
        name = layer.layer if layer.layer in known else canonical_layer(layer.layer)
        if name not in known:
            shown = ", ".join(known[:_SHOWN_LAYERS]) + (", and more" if len(known) > _SHOWN_LAYERS else "")
            usual = f"; the default is {', '.join(default)}"
            reason = f"is {layer.layer!r}, but the model {manifest.name} has the layers {shown}{usual}"
            check.add(f"{field}[{i}]{name_field}", reason)
        elif name in (w.layer for w in read):
            check.add(f"{field}[{i}]{name_field}", f"is {layer.layer!r} again; name each layer once")
        unset = 1 / len(layers) if weight is None else weight
        given = read_field(layer, "weight", check, prefix=f"{field}[{i}].")
        read.append(LayerWeight(name, unset if given is None else given))
    if not any(w.weight for w in read):
        check.add(field, "have weights that are all 0, which leaves nothing to optimize")
    return tuple(read)


def max_positions(width: int, height: int, stride: int) -> int:
    """Returns the most positions that a layer with that stride has; without padding it has fewer."""
    return (width // stride + 1) * (height // stride + 1)


def check_size(
    width: int,
    height: int,
    layers: Sequence[str],
    manifest: Manifest,
    field: str,
    check: Checker,
    *,
    what: str = "it",
) -> None:
    """Checks that a picture or canvas of width x height pixels has at least one position of each layer."""
    least, deepest = max((layer.min_side, layer.name) for layer in manifest.layers if layer.name in layers)
    if min(width, height) < least:
        check.add(field, f"{what} would be {width}x{height}, but {deepest} needs {least} pixels a side")
