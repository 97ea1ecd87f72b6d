"""Reads networks of the known families from state dicts in the common layouts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gramophone_server.models.graph import Parameters

from ..kinds import WANTED
from ..weights import State, WeightsError, load, states, values
from .families import FAMILIES, VGG19, Family
from .imported import Imported

_EPSILON = 1e-5
_CHANNELS = (64, 128, 256, 512, 512)
_OTHERS = "other networks can be imported from an ONNX file: export it, for example with torch.onnx.export"


@dataclass(frozen=True)
class _Layout:
    """Keys of a family's layers in a state dict.

    Attributes:
        prefix: what precedes the layer's name or index in each key.
        named: whether the keys have the layers' names rather than indices.
    """

    family: Family
    state: State
    prefix: str
    named: bool

    def key(self, layer: str) -> str:
        """Returns the key of a layer's parameters, without the last part."""
        return f"{self.prefix}{layer if self.named else self.family.places[layer]}"

    def normalization(self, layer: str) -> str:
        """Returns the key of the batch normalization after a layer."""
        return f"{self.prefix}{self.family.places[layer] + 1}"

    @property
    def kernels(self) -> list[str]:
        """The keys of all kernels below the prefix."""
        return [
            key for key, value in self.state.items()
            if isinstance(key, str) and key.startswith(self.prefix) and key.endswith(".weight")
            and isinstance(value, torch.Tensor) and value.ndim == 4
        ]  # fmt: skip

    @property
    def score(self) -> int:
        """How well the keys fit: the family's kernels that are there, less those that are missing or too many."""
        found, wanted = set(self.kernels), {f"{self.key(layer)}.weight" for layer in self.family.layers}
        has = any(key.startswith(self.prefix) and key.endswith(".running_mean") for key in map(str, self.state))
        return 4 * (2 * len(wanted & found) - len(wanted) - len(found - wanted)) + (has == self.family.normalized)


def read_state_dict(path: Path) -> Imported:
    """Reads a network of a known family from a PyTorch state dict, alone or in a checkpoint, or a safetensors file.

    The keys of the first layer are `0.weight` and `0.bias` (torchvision, neural-style-pt) or, for example,
    `conv1_1.weight` and `conv1_1.bias` (Gatys), with any prefix such as `features.` or `module.`. Other keys, such as
    those of a classifier, are ignored. Any floating type is accepted.

    Raises:
        WeightsError: the file is of another kind or of another network, lacks a layer, or a layer has another shape.
    """
    layout = _layout(path, load(path))
    family = layout.family
    keys = [(f"{layout.key(layer)}.{part}", layer) for layer in family.layers for part in ("weight", "bias")]
    if missing := [(key, layer) for key, layer in keys if key not in layout.state]:
        raise WeightsError(_incomplete_message(path, family, missing))
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    before = 3
    for layer, side in zip(family.layers, family.sides, strict=True):
        weights[layer] = _parameters(path, layout, layer, (before, side))
        before = len(weights[layer][0])
    return Imported(Parameters(family.build(weights), weights), family.layers, family.name)


def read_weights(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kernel (C_out, C_in, 3, 3) and bias (C_out,) of VGG-19's 16 convolutions, float32; see `read_state_dict`.

    Raises:
        WeightsError: as `read_state_dict`, or the network is not VGG-19.
    """
    found = read_state_dict(path)
    weights = found.network.weights
    if found.what != VGG19.name:
        raise WeightsError(f"{path} holds {found.what}, with {len(weights)} convolutions; VGG-19 itself is needed")
    for layer, (kernel, _) in weights.items():
        expected = _CHANNELS[int(layer[4]) - 1]
        if len(kernel) != expected:
            raise WeightsError(
                f"{path}: {layer} has the shape {kernel.shape}, but VGG-19 has {expected} channels there"
            )
    return weights


def _layout(path: Path, contents: State) -> _Layout:
    """Returns the state dict in the contents, the family, and the layout of its keys that fit each other best."""
    found = [layout for state in states(contents) for layout in _layouts(state)]
    if not found:
        raise WeightsError(_unknown_message(path, contents))
    return max(found, key=lambda layout: layout.score)


def _layouts(state: State) -> Iterator[_Layout]:
    """Yields the families and prefixes for which a state dict has the first layer."""
    for family in FAMILIES:
        first, side = family.layers[0], family.sides[0]
        for named in (False, True) if not family.normalized else (False,):
            suffix = f"{first if named else family.places[first]}.weight"
            for key, value in state.items():
                if _ends_with(key, suffix) and isinstance(value, torch.Tensor) and value.shape[1:] == (3, side, side):
                    yield _Layout(family, state, key[: -len(suffix)], named)


def _ends_with(key: object, suffix: str) -> bool:
    return isinstance(key, str) and (key == suffix or key.endswith(f".{suffix}"))


def _parameters(path: Path, layout: _Layout, layer: str, expected: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of a layer, with its batch normalization; `expected` is (C_in, side)."""
    key, name = layout.key(layer), f"{layer} of {layout.family.name}"
    kernel, bias = (_values(path, layout, f"{key}.{part}") for part in ("weight", "bias"))
    inputs, side = expected
    if kernel.ndim != 4 or kernel.shape[1:] != (inputs, side, side):
        wanted = f"{side}x{side} kernels of {inputs} channels"
        raise WeightsError(f"{path}: {key}.weight has the shape {kernel.shape}, but {name} has {wanted}")
    if bias.shape != kernel.shape[:1]:
        raise WeightsError(f"{path}: {key}.bias has the shape {bias.shape}, but {name} has {len(kernel)} filters")
    if layout.family.normalized:
        kernel, bias = _normalized(path, layout, layer, kernel, bias)
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise WeightsError(f"{path}: {layer} has weights that are not finite numbers; the file is damaged")
    return kernel, bias


def _normalized(
    path: Path, layout: _Layout, layer: str, kernel: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of a layer that includes its batch normalization."""
    key = layout.normalization(layer)
    parts = ("weight", "bias", "running_mean", "running_var")
    if missing := [f"{key}.{part}" for part in parts if f"{key}.{part}" not in layout.state]:
        raise WeightsError(f"{path} lacks {missing[0]}, which is the batch normalization after {layer}")
    gamma, beta, mean, variance = (_values(path, layout, f"{key}.{part}").astype(np.float64) for part in parts)
    if not gamma.shape == beta.shape == mean.shape == variance.shape == bias.shape:
        raise WeightsError(f"{path}: {key} has other shapes than {layer}, which has {len(bias)} channels")
    factor = gamma / np.sqrt(variance + _EPSILON)
    scaled, offset = kernel * factor[:, None, None, None], (bias - mean) * factor + beta
    return scaled.astype(np.float32), offset.astype(np.float32)


def _values(path: Path, layout: _Layout, key: str) -> np.ndarray:
    return values(path, layout.state[key], key)


def _unknown_message(path: Path, contents: State) -> str:
    """Returns the message for contents without the first layer of any family."""
    for state in states(contents):
        firsts = [value for key, value in state.items() if _ends_with(key, "0.weight")]
        if any(getattr(value, "shape", ()) == (3, 3, 1, 1) for value in firsts):
            reason = "whose first convolution is 1x1 and whose activations are scaled"
            return f"{path} holds the normalized VGG-19 of AdaIN, {reason}; {WANTED}"
    keys = ", ".join(map(str, list(contents)[:4]))
    return (
        f"{path} has no layer conv1_1 under a known name (features.0.weight, 0.weight, conv1_1.weight), so it is "
        f"another network's; its keys begin with {keys or 'nothing'}; {_OTHERS}"
    )


def _incomplete_message(path: Path, family: Family, missing: list[tuple[str, str]]) -> str:
    """Returns the message for a state dict that has the first layer of a family but not all."""
    names = list(dict.fromkeys(layer for _, layer in missing))
    some = ", ".join(key for key, _ in missing[:4]) + (", and more" if len(missing) > 4 else "")
    layers = ", ".join(names[:4]) + (", and more" if len(names) > 4 else "")
    count = len(family.layers)
    needed = f"all of its {count} convolutions are needed"
    return f"{path} lacks {some}, which is {layers} of {family.name}; {needed}; {_OTHERS}"
