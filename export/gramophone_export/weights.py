"""Loads files of weights: PyTorch state dicts, alone or in a checkpoint, and safetensors files."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gramophone_server.files import open_file

from .kinds import WANTED, is_safetensors, kind_of

# Maximum depth at which a state dict is searched in a checkpoint.
_DEPTH = 4
MOST_BYTES = 4 << 30
"""Maximum bytes of a weight file: VGG-19 with its classifier has 0.6 GB, and twice that in float64."""

State = Mapping[str, Any]


class WeightsError(ValueError):
    """A weight file cannot be used; the message says why and what to do."""


def load(path: Path) -> State:
    """Returns the content of a weight file. Only tensors are loaded from the file, never code.

    Raises:
        WeightsError: the file cannot be read, is larger than 4 GiB, or does not contain a state dict.
    """
    contents = _contents(path)
    if not isinstance(contents, Mapping):
        raise WeightsError(f"{path} holds a {type(contents).__name__}, not a state dict; save model.state_dict()")
    return contents


def _contents(path: Path) -> Any:
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


def states(contents: State, depth: int = _DEPTH) -> Iterator[State]:
    """Yields all mappings in a checkpoint, starting with the checkpoint itself."""
    yield contents
    for value in contents.values():
        if depth and isinstance(value, Mapping):
            yield from states(value, depth - 1)


def values(path: Path, value: Any, key: str) -> np.ndarray:
    """Returns a tensor's values in float32.

    Raises:
        WeightsError: it has no values, or they are not floating-point.
    """
    if not isinstance(value, torch.Tensor):
        raise WeightsError(f"{path}: {key} is a {type(value).__name__}, not a tensor")
    if value.is_meta:
        raise WeightsError(
            f"{path}: {key} has a shape but no values; save the weights of a network that is not on the meta device"
        )
    if not value.is_floating_point() or value.is_sparse:
        kind = "sparse" if value.is_sparse else str(value.dtype).removeprefix("torch.")
        raise WeightsError(f"{path}: {key} is {kind}; floating-point weights are needed, such as float32 or float16")
    array: np.ndarray = value.detach().to("cpu", torch.float32).contiguous().numpy()
    return array
