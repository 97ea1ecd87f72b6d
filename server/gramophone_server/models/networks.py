"""Opens a model as a network of the engine."""

from collections.abc import Sequence

import torch

from ..engine.kernels.padding import ZEROS, Paddings
from ..engine.network import Network
from .layers import PoolingName
from .loading import load_network
from .model import Model


def open_network(
    model: Model,
    layers: Sequence[str],
    *,
    pooling: PoolingName = "max",
    paddings: Paddings = ZEROS,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Network:
    """Returns the model's network up to the deepest of some layers, with its preprocessing; see `Network`.

    Raises:
        KeyError: the network has no such layer.
        ModelError: the model's file does not match its manifest.
    """
    order, scale, shift = model.manifest.preprocessing.affine
    parameters = load_network(model)
    return Network(
        parameters.architecture, parameters.weights, layers, heads=parameters.heads, order=order, scale=scale,
        shift=shift, pool=pooling, paddings=paddings, dtype=dtype, device=device,
    )  # fmt: skip


# The last network of `kept_network`, by everything it depends on.
_kept: dict[tuple[object, ...], Network] = {}


def kept_network(
    model: Model,
    layers: Sequence[str],
    *,
    pooling: PoolingName,
    paddings: Paddings,
    dtype: torch.dtype,
    device: torch.device,
) -> Network:
    """Returns the network of `open_network`, and keeps it until another one is asked for.

    Opening VGG-19 takes a third of a second, which is much of the time to a job's first preview.

    Raises:
        KeyError, ModelError: as `open_network`.
    """
    key = (model.manifest.sha256, model.manifest.preprocessing, tuple(layers), pooling, paddings, dtype, device)
    if key not in _kept:
        # Free the other network before this one needs its memory.
        _kept.clear()
        _kept[key] = open_network(model, layers, pooling=pooling, paddings=paddings, dtype=dtype, device=device)
    return _kept[key]
