"""Reads VGG-19's convolutions from files of weights in the layouts that are around."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gramophone_server.files import open_file
from gramophone_server.models.layers import BLOCKS, VGG19_LAYERS

# Positions of the convolutions in torchvision's `features`, where ReLUs and pools count too.
_POSITIONS = dict(zip(VGG19_LAYERS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), strict=True))
_CHANNELS = (64, 128, 256, 512, 512)
MOST_BYTES = 4 << 30
"""Of a file of weights: VGG-19 with its classifier has 0.6 GB, in float64 twice that."""


class WeightsError(ValueError):
    """A file of weights cannot be used; the message says why and what to do."""


def read_weights(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel (C_out, C_in, 3, 3) and bias (C_out,) of VGG-19's 16 convolutions, float32.

    The file is a PyTorch state dict with one of these keys for conv1_1: `features.0.weight` (torchvision and
    neural-style-pt; with or without a classifier), `0.weight` (torchvision's features alone), `conv1_1.weight` (Gatys),
    `features.conv1_1.weight`. Only tensors are loaded from it, never code.

    Raises:
        WeightsError: it is no such file, has more than 4 GiB, lacks a layer, or has one of another shape than VGG-19's.
    """
    try:
        open_file(path, MOST_BYTES).close()
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is not a file of PyTorch weights: {reason}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} holds a {type(state).__name__}, not a state dict; save model.state_dict()")
    pattern = _layout(path, state)
    return {name: _layer(path, state, name, pattern) for name in VGG19_LAYERS}


def _layout(path: Path, state: Mapping[str, Any]) -> str:
    """The pattern of the layers' keys, with {name} or {index} in it."""
    for pattern in ("features.{index}", "{index}", "{name}", "features.{name}"):
        if f"{_fill(pattern, 'conv1_1')}.weight" in state:
            return pattern
    keys = ", ".join(list(state)[:4])
    raise WeightsError(
        f"{path} has no layer conv1_1 by any name that is known (features.0.weight, 0.weight, conv1_1.weight); "
        f"its keys begin with {keys or 'nothing'}"
    )


def _layer(path: Path, state: Mapping[str, Any], name: str, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    key = _fill(pattern, name)
    missing = [f"{key}.{part}" for part in ("weight", "bias") if f"{key}.{part}" not in state]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}, which is {name} of VGG-19")
    kernel, bias = (state[f"{key}.{part}"].float().numpy() for part in ("weight", "bias"))
    expected = _shape(name)
    if kernel.shape != expected or bias.shape != expected[:1]:
        raise WeightsError(f"{path}: {key}.weight has the shape {kernel.shape}, but {name} of VGG-19 has {expected}")
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise WeightsError(f"{path}: {name} has weights that are not finite numbers; the file is damaged")
    return kernel, bias


def _fill(pattern: str, name: str) -> str:
    return pattern.format(name=name, index=_POSITIONS[name])


def _shape(name: str) -> tuple[int, int, int, int]:
    block, index = map(int, re.findall(r"\d", name))
    width = _CHANNELS[block - 1]
    before = width if index > 1 else (3, *_CHANNELS)[block - 1]
    assert 1 <= index <= BLOCKS[block - 1]
    return width, before, 3, 3
