"""What is known of a model without opening it. Standard library only: the front process reads manifests."""

import json
import re
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from .layers import LossScaleName, PoolingName, position, stride
from .values import Fields, ManifestError, parse

__all__ = ["FORMAT", "LBFGS_HISTORY", "Layer", "Manifest", "ManifestError", "Preprocessing"]

FORMAT = 1
LBFGS_HISTORY = 20
"""Of networks that cost far more than to remember does."""
_MOST_LAYERS = 64


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        channels: N_l.
        stride: pixels of the picture per position of its feature map, along each axis.
        head: whether its output is a matrix times the activation, which `build_vgg` calls a head.
    """

    name: str
    channels: int
    stride: int
    head: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """How the network wants its input: channel order, range, and mean and deviation in that order and range."""

    order: Literal["RGB", "BGR"]
    range: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def affine(self) -> tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...]]:
        """Channel indices, scale and shift: `x[:, indices] * scale + shift` is the input for RGB x of 0 to 1."""
        indices = (0, 1, 2) if self.order == "RGB" else (2, 1, 0)
        scale = tuple(self.range / deviation for deviation in self.std)
        shift = tuple(-mean / deviation for mean, deviation in zip(self.mean, self.std, strict=True))
        return indices, scale, shift


@dataclass(frozen=True)
class Manifest:
    """A model.

    Attributes:
        layers: shallow to deep.
        sha256: of the ONNX file, hexadecimal.
        pooling: what the network pools with unless a request says otherwise.
        loss_scale: the units of its layers' losses unless a request says otherwise.
        lbfgs_history: how many curvature pairs L-BFGS keeps unless a request says otherwise.
        tv_weight: the weight of the total variation beside relative losses of a content picture, unless a request says
            otherwise.
        parity: the relative error of each layer, ONNX Runtime against torch, as measured when the model was made.
    """

    name: str
    layers: tuple[Layer, ...]
    preprocessing: Preprocessing
    sha256: str
    description: str
    source: str
    license: str
    pooling: PoolingName = "max"
    loss_scale: LossScaleName = "paper"
    parity: dict[str, float] = field(default_factory=dict)
    lbfgs_history: int = LBFGS_HISTORY
    tv_weight: float = 0.0

    def stride(self, layer: str) -> int:
        """Pixels of the picture per position of a layer's feature map, along each axis."""
        return next(known.stride for known in self.layers if known.name == layer)

    def radius(self, layer: str) -> int:
        """Receptive radius of a layer: pixels around a position's own that it depends on, to each side."""
        names = [known.name for known in self.layers]
        # Each kernel reaches one position of its layer further; pooling reads the pixels that a position stands for.
        return sum(known.stride for known in self.layers[: names.index(layer) + 1])

    def to_json(self) -> str:
        """The manifest as the text of a manifest.json."""
        values = {"format": FORMAT, **asdict(self)}
        # Left out where it says nothing new, so that manifests of earlier versions stay as they are.
        if self.loss_scale == "paper":
            del values["loss_scale"]
        if self.lbfgs_history == LBFGS_HISTORY:
            del values["lbfgs_history"]
        if not self.tv_weight:
            del values["tv_weight"]
        for layer in values["layers"]:
            if not layer["head"]:
                del layer["head"]
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """The manifest of a manifest.json.

        Raises:
            ManifestError: it is not one, or of a later format.
        """
        fields = Fields(parse(text), "it")
        if fields.take("format") != FORMAT:
            raise ManifestError("is of a format that this version does not know; upgrade gramophone")
        layers = _layers(fields.take("layers"))
        manifest = cls(
            name=fields.text("name", 64),
            layers=layers,
            preprocessing=_preprocessing(fields.take("preprocessing")),
            sha256=_sha256(fields.text("sha256", 64)),
            description=fields.text("description"),
            source=fields.text("source"),
            # Manifests of earlier versions spell it so.
            license=fields.text("license" if fields.has("license") else "licence"),
            pooling=fields.choice("pooling", get_args(PoolingName), "max"),
            loss_scale=fields.choice("loss_scale", get_args(LossScaleName), "paper"),
            parity=fields.named_numbers("parity", [layer.name for layer in layers]),
            lbfgs_history=fields.whole("lbfgs_history", 1, 200, LBFGS_HISTORY),
            tv_weight=fields.number("tv_weight", 0.0, 1e6, 0.0),
        )
        fields.end()
        return manifest


def _layers(values: Any) -> tuple[Layer, ...]:
    if not isinstance(values, list) or not 1 <= len(values) <= _MOST_LAYERS:
        raise ManifestError(f"is not a model's manifest: layers is not a list of 1 to {_MOST_LAYERS} layers")
    layers = tuple(_layer(value) for value in values)
    positions = [position(layer.name) for layer in layers]
    if any(before >= after for before, after in pairwise(positions)):
        raise ManifestError("is not a model's manifest: its layers are not in order, or one is there twice")
    return layers


def _layer(value: Any) -> Layer:
    fields = Fields(value, "a layer")
    layer = Layer(
        fields.text("name", 64),
        fields.whole("channels", 1, 1 << 16),
        fields.whole("stride", 1, 512),
        fields.flag("head"),
    )
    fields.end()
    try:
        position(layer.name)
    except ValueError as error:
        raise ManifestError(f"is not a model's manifest: {error}") from None
    if layer.stride not in (stride(layer.name), stride(layer.name, 2)):
        raise ManifestError(f"is not a model's manifest: {layer.name} cannot have a stride of {layer.stride}")
    return layer


def _preprocessing(value: Any) -> Preprocessing:
    fields = Fields(value, "preprocessing")
    order = fields.take("order")
    if order not in ("RGB", "BGR"):
        raise ManifestError(f"has the channel order {str(order)[:20]!r}, which is neither RGB nor BGR")
    wide = fields.number("range", 1e-3, 1e6)
    mean, std = fields.numbers("mean", 3, -1e6, 1e6), fields.numbers("std", 3, 1e-6, 1e6)
    fields.end()
    return Preprocessing(order, wide, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ManifestError("is not a model's manifest: its sha256 is not 64 hexadecimal digits")
    return text
