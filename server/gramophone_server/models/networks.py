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
