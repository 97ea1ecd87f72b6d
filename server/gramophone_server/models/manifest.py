"""Manifests: the properties of models that are known without opening the ONNX file.

Standard library only: the front process reads manifests.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from .layers import CONTENT_LAYERS, STYLE_LAYERS, LossScaleName, PoolingName
from .values import Fields, ManifestError, parse

__all__ = ["FORMAT", "LBFGS_HISTORY", "Layer", "Manifest", "ManifestError", "Preprocessing"]

FORMAT = 1
LBFGS_HISTORY = 20
"""Default curvature pairs of L-BFGS; right for networks that cost far more per step than the pairs do."""
_MAX_LAYERS = 256
# Names without the characters that separate layers and weights on the command line.
_LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes:
        channels: channels of the feature map, N_l.
        stride: pixels of the picture per position of the feature map, along each axis.
        head: whether the layer has a head: its output is a matrix times the activation; see `build_graph`.
        least: smallest side of a picture in pixels for which the layer has a position; 0 for the stride.
    """

    name: str
    channels: int
    stride: int
    head: bool = False
    least: int = 0

    @property
    def min_side(self) -> int:
        """Smallest side of a picture, in pixels, for which the layer has a position."""
        return self.least or self.stride


@dataclass(frozen=True)
class Preprocessing:
    """The network's input format: channel order, range, and mean and standard deviation in that order and range."""

    order: Literal["RGB", "BGR"]
    range: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def affine(self) -> tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...]]:
        """(indices, scale, shift): the network's input is `x[:, indices] * scale + shift` for RGB x of 0 to 1."""
        indices = (0, 1, 2) if self.order == "RGB" else (2, 1, 0)
        scale = tuple(self.range / deviation for deviation in self.std)
        shift = tuple(-mean / deviation for mean, deviation in zip(self.mean, self.std, strict=True))
        return indices, scale, shift


@dataclass(frozen=True)
class Manifest:
    """The properties of a model. Its defaults apply to requests that do not set the option.

    Attributes:
        layers: the layers that requests can name, from shallow to deep.
        sha256: SHA-256 of the ONNX file, hexadecimal.
        parity: relative error of each layer, ONNX Runtime against torch, measured when the model was made.
        pooling: default pooling.
        loss_scale: default unit of layer losses.
        lbfgs_history: default number of curvature pairs of L-BFGS.
        tv_weight: default weight of the total variation for relative losses and jobs with a content picture.
        style_layers: default style layers.
        content_layers: default content layers.
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
    style_layers: tuple[str, ...] = STYLE_LAYERS
    content_layers: tuple[str, ...] = CONTENT_LAYERS

    def layer(self, name: str) -> Layer:
        """Returns the layer with that name; raises KeyError if there is none."""
        found = next((layer for layer in self.layers if layer.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def min_side(self, names: Iterable[str]) -> int:
        """Returns the smallest side of a picture, in pixels, for which all of some layers have a position."""
        return max(self.layer(name).min_side for name in names)

    def to_json(self) -> str:
        """Returns the text of a manifest.json."""
        values = {"format": FORMAT, **asdict(self)}
        # Omit newer fields with default values, so that manifests of earlier versions do not change.
        if self.loss_scale == "paper":
            del values["loss_scale"]
        if self.lbfgs_history == LBFGS_HISTORY:
            del values["lbfgs_history"]
        if not self.tv_weight:
            del values["tv_weight"]
        for key, usual in (("style_layers", STYLE_LAYERS), ("content_layers", CONTENT_LAYERS)):
            if values[key] == usual:
                del values[key]
        for layer in values["layers"]:
            for key in ("head", "least"):
                if not layer[key]:
                    del layer[key]
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Parses the text of a manifest.json.

        Raises:
            ManifestError: the text is not a manifest, or has a later format.
        """
        fields = Fields(parse(text), "the manifest")
        if fields.take("format") != FORMAT:
            raise ManifestError("has a format that this version does not know; upgrade gramophone")
        layers = _layers(fields.take("layers"))
        manifest = cls(
            name=fields.text("name", 64),
            layers=layers,
            preprocessing=_preprocessing(fields.take("preprocessing")),
            sha256=_sha256(fields.text("sha256", 64)),
            description=fields.text("description"),
            source=fields.text("source"),
            # Manifests of earlier versions spell it "licence".
            license=fields.text("license" if fields.has("license") else "licence"),
            pooling=fields.choice("pooling", get_args(PoolingName), "max"),
            loss_scale=fields.choice("loss_scale", get_args(LossScaleName), "paper"),
            parity=fields.named_numbers("parity", [layer.name for layer in layers]),
            lbfgs_history=fields.whole("lbfgs_history", 1, 200, LBFGS_HISTORY),
            tv_weight=fields.number("tv_weight", 0.0, 1e6, 0.0),
            style_layers=_defaults(fields, "style_layers", STYLE_LAYERS, layers),
            content_layers=_defaults(fields, "content_layers", CONTENT_LAYERS, layers),
        )
        fields.end()
        return manifest


def _layers(values: Any) -> tuple[Layer, ...]:
    if not isinstance(values, list) or not 1 <= len(values) <= _MAX_LAYERS:
        raise ManifestError(f"is not a model's manifest: layers is not a list of 1 to {_MAX_LAYERS} layers")
    layers = tuple(_layer(value) for value in values)
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise ManifestError("is not a model's manifest: its layers contain a duplicate")
    return layers


def _layer(value: Any) -> Layer:
    fields = Fields(value, "a layer")
    layer = Layer(
        fields.text("name", 64),
        fields.whole("channels", 1, 1 << 16),
        fields.whole("stride", 1, 512),
        fields.flag("head"),
        fields.whole("least", 0, 1 << 16, 0),
    )
    fields.end()
    if not _LAYER_NAME.fullmatch(layer.name):
        allowed = "letters, digits, '_', '.' and '-'"
        raise ManifestError(
            f"is not a model's manifest: {layer.name!r} is not the name of a layer; it may have {allowed}"
        )
    return layer


def _defaults(fields: Fields, key: str, usual: tuple[str, ...], layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Returns the names of default layers; those of the paper that the model has, if the manifest gives none."""
    known = [layer.name for layer in layers]
    if not fields.has(key):
        return usual
    names = fields.take(key)
    if not isinstance(names, list) or not names or not all(name in known for name in names):
        raise ManifestError(f"is not a model's manifest: {key} is not a list of layers of the model")
    return tuple(dict.fromkeys(names))


def _preprocessing(value: Any) -> Preprocessing:
    fields = Fields(value, "preprocessing")
    order = fields.take("order")
    if order not in ("RGB", "BGR"):
        raise ManifestError(f"has the channel order {str(order)[:20]!r}, which is neither RGB nor BGR")
    value_range = fields.number("range", 1e-3, 1e6)
    mean, std = fields.numbers("mean", 3, -1e6, 1e6), fields.numbers("std", 3, 1e-6, 1e6)
    fields.end()
    return Preprocessing(order, value_range, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ManifestError("is not a model's manifest: its sha256 is not 64 hexadecimal digits")
    return text
