"""Reads VGG-19's convolutions from weight files in the common layouts."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gramophone_server.files import open_file
from gramophone_server.models.vgg import VGG19_BLOCKS, VGG19_LAYERS

from .kinds import WANTED, is_safetensors, kind_of

# Indices of the convolutions in torchvision's `features`, which also contains the ReLU and pooling modules.
_POSITIONS = dict(zip(VGG19_LAYERS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), strict=True))
_CHANNELS = (64, 128, 256, 512, 512)
_PATTERNS = ("{index}", "{name}")
# Maximum depth at which a state dict is searched in a checkpoint.
_DEPTH = 4
# Names of other VGG networks, by the number of their convolutions.
_FAMILY = {8: "VGG-11", 10: "VGG-13", 13: "VGG-16"}
MOST_BYTES = 4 << 30
"""Maximum bytes of a weight file: VGG-19 with its classifier has 0.6 GB, and twice that in float64."""

State = Mapping[str, Any]


class WeightsError(ValueError):
    """A weight file cannot be used; the message says why and what to do."""


def read_weights(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns kernel (C_out, C_in, 3, 3) and bias (C_out,) of VGG-19's 16 convolutions, float32.

    The file is a PyTorch state dict, alone or in a checkpoint, or a safetensors file. The keys of conv1_1 are
    `0.weight` and `0.bias` (torchvision and neural-style-pt) or `conv1_1.weight` and `conv1_1.bias` (Gatys), with any
    prefix such as `features.` or `module.`. Other keys, such as those of a classifier, are ignored. Any floating type
    is accepted. Only tensors are loaded from the file, never code.

    Raises:
        WeightsError: the file is of another kind, is larger than 4 GiB, lacks a layer, or a layer has another shape.
    """
    contents = _load(path)
    if not isinstance(contents, Mapping):
        raise WeightsError(f"{path} holds a {type(contents).__name__}, not a state dict; save model.state_dict()")
    state, pattern = _layout(path, contents)
    keys = [f"{_fill(pattern, name)}.{part}" for name in VGG19_LAYERS for part in ("weight", "bias")]
    if not all(key in state for key in keys):
        raise WeightsError(_incomplete_message(path, state, pattern))
    return {name: _layer(path, state, name, pattern) for name in VGG19_LAYERS}


def _load(path: Path) -> Any:
    """Returns the content of a weight file.

    Raises:
        WeightsError: the file cannot be read or does not contain weights.
    """
    try:
        open_file(path, MOST_BYTES).close()
        if (kind := kind_of(path)) is not None:
            raise WeightsError(f"{path} is {kind}; {WANTED}")
        with path.open("rb") as file:
            safe = is_safetensors(file.read(16))
        return _safetensors(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise WeightsError(_unloadable_message(path, error)) from error


def _safetensors(path: Path) -> State:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise WeightsError(f"{path} is a safetensors file; to read it, pip install 'gramophone[export]'") from None
    state: State = load_file(path)
    return state


def _unloadable_message(path: Path, error: Exception) -> str:
    """Returns the message for a file that looks like weights but cannot be loaded."""
    text = str(error)
    named = re.search(r"(?:GLOBAL|Unsupported global:?|Unsupported class)\s+(?:GLOBAL\s+)?([\w.]+)", text)
    if named is not None:
        made_of = named[1]
        if "numpy" in made_of:
            return f"{path} holds NumPy arrays rather than tensors; {WANTED}"
        return (
            f"{path} holds a whole Python object ({made_of}), which could run code when it is loaded; load it with the "
            "program that created it, and save model.state_dict()"
        )
    if "weights_only" in text or "Unsupported operand" in text or "Weights only load failed" in text:
        return f"{path} is a pickle of Python objects, not of tensors; {WANTED}"
    return f"{path} is cut off or damaged; download it again"


def _layout(path: Path, contents: State) -> tuple[State, str]:
    """Returns the state dict in the contents with the most layers of VGG-19, and the pattern of its layers' keys."""
    found: list[tuple[int, State, str]] = []
    for state in _states(contents):
        for pattern in _patterns(state):
            found.append((sum(f"{_fill(pattern, name)}.weight" in state for name in VGG19_LAYERS), state, pattern))
    if not found:
        raise WeightsError(_unknown_message(path, contents))
    _, state, pattern = max(found, key=lambda entry: entry[0])
    return state, pattern


def _states(contents: State, depth: int = _DEPTH) -> Iterator[State]:
    """Yields all mappings in a checkpoint, starting with the checkpoint itself."""
    yield contents
    for value in contents.values():
        if depth and isinstance(value, Mapping):
            yield from _states(value, depth - 1)


def _patterns(state: State) -> Iterator[str]:
    """Yields the key patterns, with {name} or {index}, under which a state dict has a conv1_1 of VGG's shape."""
    for key, value in state.items():
        for pattern in _PATTERNS:
            prefix, dot, own = _split(key, f"{_fill(pattern, 'conv1_1')}.weight")
            if own and isinstance(value, torch.Tensor) and value.shape[1:] == (3, 3, 3):
                yield f"{prefix}{dot}".replace("{", "{{").replace("}", "}}") + pattern


def _split(key: Any, suffix: str) -> tuple[str, str, bool]:
    """Returns a key's prefix, the dot after it, and whether the key is the suffix or ends with a dot and the suffix."""
    if not isinstance(key, str) or not (key == suffix or key.endswith(f".{suffix}")):
        return "", "", False
    prefix = key[: -len(suffix)]
    return prefix[:-1], prefix[-1:], True


def _unknown_message(path: Path, contents: State) -> str:
    """Returns the message for contents without a conv1_1."""
    for state in _states(contents):
        firsts = [value for key, value in state.items() if _split(key, "0.weight")[2]]
        if any(getattr(value, "shape", ()) == (3, 3, 1, 1) for value in firsts):
            reason = "whose first convolution is 1x1 and whose activations are scaled"
            return f"{path} holds the normalized VGG-19 of AdaIN, {reason}; {WANTED}"
    keys = ", ".join(map(str, list(contents)[:4]))
    return (
        f"{path} has no layer conv1_1 under a known name (features.0.weight, 0.weight, conv1_1.weight), so "
        f"it is another network's; its keys begin with {keys or 'nothing'}"
    )


def _incomplete_message(path: Path, state: State, pattern: str) -> str:
    """Returns the message for a state dict that has a conv1_1 but is not VGG-19's."""
    if normalized := [key for key in state if isinstance(key, str) and key.endswith("running_mean")]:
        return (
            f"{path} holds a VGG with batch normalization ({normalized[0]}), whose activations differ; "
            "VGG-19 without batch normalization is needed"
        )
    prefix = pattern.rpartition("{")[0].replace("{{", "{").replace("}}", "}")
    kernels = [
        key for key, value in state.items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(value, torch.Tensor) and value.ndim == 4
    ]  # fmt: skip
    if (other := _FAMILY.get(len(kernels))) is not None:
        return f"{path} holds {other}, with {len(kernels)} convolutions; VGG-19, which has 16, is needed"
    keys = [(f"{_fill(pattern, name)}.{part}", name) for name in VGG19_LAYERS for part in ("weight", "bias")]
    missing = [(key, name) for key, name in keys if key not in state]
    names = list(dict.fromkeys(name for _, name in missing))
    some = ", ".join(key for key, _ in missing[:4]) + (", and more" if len(missing) > 4 else "")
    layers = ", ".join(names[:4]) + (", and more" if len(names) > 4 else "")
    return f"{path} lacks {some}, which is {layers} of VGG-19; all of its 16 convolutions are needed"


def _layer(path: Path, state: State, name: str, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    key = _fill(pattern, name)
    kernel, bias = (_values(path, state[f"{key}.{part}"], f"{key}.{part}") for part in ("weight", "bias"))
    expected = _shape(name)
    if kernel.shape != expected:
        raise WeightsError(f"{path}: {key}.weight has the shape {kernel.shape}, but {name} of VGG-19 has {expected}")
    if bias.shape != expected[:1]:
        raise WeightsError(f"{path}: {key}.bias has the shape {bias.shape}, but {name} of VGG-19 has {expected[:1]}")
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise WeightsError(f"{path}: {name} has weights that are not finite numbers; the file is damaged")
    return kernel, bias


def _values(path: Path, value: Any, key: str) -> np.ndarray:
    """Returns a tensor's values in float32."""
    if not isinstance(value, torch.Tensor):
        raise WeightsError(f"{path}: {key} is a {type(value).__name__}, not a tensor")
    if value.is_meta:
        raise WeightsError(
            f"{path}: {key} has a shape but no values; save the weights of a network that is not on the meta device"
        )
    if not value.is_floating_point() or value.is_sparse:
        kind = "sparse" if value.is_sparse else str(value.dtype).removeprefix("torch.")
        raise WeightsError(f"{path}: {key} is {kind}; floating-point weights are needed, such as float32 or float16")
    values: np.ndarray = value.detach().to("cpu", torch.float32).contiguous().numpy()
    return values


def _fill(pattern: str, name: str) -> str:
    return pattern.format(name=name, index=_POSITIONS[name])


def _shape(name: str) -> tuple[int, int, int, int]:
    block, index = map(int, re.findall(r"\d", name))
    width = _CHANNELS[block - 1]
    before = width if index > 1 else (3, *_CHANNELS)[block - 1]
    assert 1 <= index <= VGG19_BLOCKS[block - 1]
    return width, before, 3, 3
