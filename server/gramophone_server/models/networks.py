"""Opens a model as a network of the engine."""

import threading
import weakref
from collections.abc import Sequence

import torch

from ..engine.kernels.padding import ZEROS, Paddings
from ..engine.network import Network
from .layers import PoolingName
from .loading import load_network
from .model import Model

# The networks in use: jobs that run together use one, and can be evaluated as one batch.
_opened: "weakref.WeakValueDictionary[tuple[object, ...], Network]" = weakref.WeakValueDictionary()
_lock = threading.Lock()


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

    As long as it is in use, further calls with equal arguments return the same network.

    Raises:
        KeyError: the network has no such layer.
        ModelError: the model's file does not match its manifest.
    """
    key = (model.manifest.sha256, model.manifest.preprocessing, tuple(layers), pooling, paddings, dtype, str(device))
    with _lock:
        network = _opened.get(key)
        if network is None:
            network = _opened[key] = _new_network(model, layers, pooling, paddings, dtype, device)
        return network


def _new_network(
    model: Model,
    layers: Sequence[str],
    pooling: PoolingName,
    paddings: Paddings,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Network:
    order, scale, shift = model.manifest.preprocessing.affine
    parameters = load_network(model)
    return Network(
        parameters.architecture, parameters.weights, layers, heads=parameters.heads, order=order, scale=scale,
        shift=shift, pool=pooling, paddings=paddings, dtype=dtype, device=device,
    )  # fmt: skip


# The last network of `kept_network`, by everything it depends on.
_kept: dict[tuple[object, ...], Network] = {}
_keeping = threading.Lock()


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
    with _keeping:
        if key not in _kept:
            # Free the other network before this one needs its memory.
            _kept.clear()
            _kept[key] = open_network(model, layers, pooling=pooling, paddings=paddings, dtype=dtype, device=device)
        return _kept[key]
