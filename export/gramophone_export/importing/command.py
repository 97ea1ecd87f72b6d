"""Creates a model from a file, for the commands of `gramophone models` and `gramophone export`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gramophone_server.engine.architecture import INPUT
from gramophone_server.models.graph import Parameters
from gramophone_server.models.layers import PoolingName
from gramophone_server.models.manifest import Preprocessing
from gramophone_server.models.model import Model
from gramophone_server.models.store import check_name

from ..catalog import CATALOG, PREPROCESSING
from ..convert import convert
from ..origin import has_published_weights, likely_mismatch, mismatch
from ..weights import WeightsError
from .families import VGG19
from .files import read_network
from .imported import Imported

_VARIATION = 1e-5


@dataclass(frozen=True)
class Choices:
    """What the user says about a file.

    Attributes:
        name: name of the model.
        preprocessing: "torchvision" or "caffe"; None for none of them.
        mean, std: mean and standard deviation of the channels in the network's order and range.
        order: "RGB" or "BGR".
        range: largest value of the network's input before mean and deviation, 1 or 255.
        layers: names of the layers to offer; empty for all.
        style_layers, content_layers: default layers; empty for those that suit the network.
        pooling: default pooling; None for the network's own.
        checked: whether the file is known to contain the published weights of that name.
    """

    name: str
    preprocessing: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    order: str | None = None
    range: float | None = None
    layers: tuple[str, ...] = ()
    style_layers: tuple[str, ...] = ()
    content_layers: tuple[str, ...] = ()
    pooling: PoolingName | None = None
    checked: bool = False


def import_model(root: Path, file: Path, choices: Choices, note: Callable[[str], None]) -> Model:
    """Creates a model in a folder of models from a file, and returns it.

    Args:
        note: receives each remark for the user, as a sentence.

    Raises:
        WeightsError: the file cannot be used, or does not fit the choices.
        ParityError: ONNX Runtime and torch disagree on the network.
        ValueError: the name cannot be used.
        OSError: the model cannot be written.
    """
    check_name(choices.name, root)
    wanted = preprocessing_of(choices)
    found = read_network(file, choices.layers)
    for remark in found.notes:
        note(remark)
    known, kernel = CATALOG.get(choices.name), first_kernel(found.network)
    if known is not None and found.what != VGG19.name and not has_published_weights(choices.name, kernel):
        raise WeightsError(f"{file} holds {found.what}, but {choices.name} is VGG-19; use another --name")
    if not choices.checked:
        _check_origin(file, kernel, wanted, choices.name, note)
    if known is not None and not choices.checked and not has_published_weights(choices.name, kernel):
        note(f"these are not the published weights of {choices.name}; the manifest records this")
        known = None
    _check_layers(found, choices)
    # The paper's weights of content and style suit the magnitude of VGG's activations only.
    relative = not found.what.startswith("VGG") or "normalization" in found.what
    fine = min(map(found.network.architecture.stride, found.layers)) == 1
    return convert(
        root,
        found.network,
        name=choices.name,
        preprocessing=found.folded(wanted),
        description=known.description
        if known
        else f"{found.what[0].upper()}{found.what[1:]} with weights imported from a file.",
        source=known.source if known else f"imported from {file.name}",
        license=known.license if known else "not known",
        layers=found.layers,
        pooling=choices.pooling or found.pooling,
        loss_scale="relative" if relative else "paper",
        # Without a feature map at full resolution, plain areas get a grid of dots.
        tv_weight=0.0 if fine else _VARIATION,
        style_layers=choices.style_layers,
        content_layers=choices.content_layers,
    )


def preprocessing_of(choices: Choices) -> Preprocessing:
    """Returns the preprocessing that the user states, or that of the known network.

    Raises:
        WeightsError: neither says anything about it.
    """
    known = CATALOG.get(choices.name)
    stated = {key: value for key in ("mean", "std", "order", "range") if (value := getattr(choices, key)) is not None}
    if choices.preprocessing:
        base = PREPROCESSING[choices.preprocessing]
    elif known is not None:
        base = known.preprocessing
    elif stated:
        base = Preprocessing("RGB", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    else:
        raise WeightsError(
            f"the preprocessing of the network {choices.name} is not known: add --preprocessing torchvision (RGB, 0 to "
            "1, ImageNet's mean and deviation) or --preprocessing caffe (BGR, 0 to 255, mean subtracted), or state it "
            "with --order, --range, --mean and --std"
        )
    return replace(base, **stated)


def first_kernel(network: Parameters) -> np.ndarray:
    """Returns the kernel (C, 3, k, k) of the first convolution."""
    first = next(c for c in network.architecture.convolutions if c.source == INPUT)
    return network.weights[first.name][0]


def _check_layers(found: Imported, choices: Choices) -> None:
    for option, names in (("--style-layers", choices.style_layers), ("--content-layers", choices.content_layers)):
        if missing := [name for name in names if name not in found.layers]:
            raise WeightsError(f"{option} names {missing[0]!r}, but the layers are {', '.join(found.layers[:60])}")


def _check_origin(
    file: Path, kernel: np.ndarray, wanted: Preprocessing, name: str, note: Callable[[str], None]
) -> None:
    """Checks that the weights match the preprocessing and the name, given their first kernel.

    If the name is not in the catalog, a likely mismatch is only a note.
    """
    if reason := mismatch(kernel, wanted, name):
        raise WeightsError(f"{file}: the weights {reason}")
    if reason := likely_mismatch(kernel, wanted, name):
        if name in CATALOG:
            raise WeightsError(f"{file}: the weights {reason}")
        note(f"the weights {reason}")


def summary(model: Model) -> str:
    """Returns what was made, in a few lines."""
    manifest = model.manifest
    worst = max(manifest.parity.values())
    lines = [
        f"{manifest.name}: {model.path.stat().st_size / 1e6:.0f} MB at {model.path}; ONNX Runtime agrees with torch to "
        f"{worst:.0e}",
        _listed("layers", [layer.name for layer in manifest.layers]),
        _listed("style layers by default", manifest.style_layers),
        _listed("content layers by default", manifest.content_layers),
    ]
    return "\n".join(lines)


def _listed(title: str, names: Sequence[str]) -> str:
    return f"{title}: {', '.join(names)}"
