"""What is known of a model without opening it. Standard library only: the front process reads manifests."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .layers import LossScaleName, PoolingName

FORMAT = 1
LBFGS_HISTORY = 20
"""Of networks that cost far more than to remember does."""


class ManifestError(ValueError):
    """A manifest cannot be understood; the message says why."""


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
    licence: str
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
    def from_json(cls, text: str) -> "Manifest":
        """The manifest of a manifest.json.

        Raises:
            ManifestError: it is not one, or of a later format.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("format") != FORMAT:
                raise ManifestError("is of a format that this version does not know; upgrade gramophone")
            wants = values.pop("preprocessing")
            if wants["order"] not in ("RGB", "BGR"):
                raise ManifestError(f"has the channel order {wants['order']!r}, which is neither RGB nor BGR")
            mean, std = (tuple(map(float, wants[key])) for key in ("mean", "std"))
            if len(mean) != 3 or len(std) != 3 or not all(std):
                raise ManifestError("needs a mean and a std, not 0, for each of three channels")
            layers = tuple(Layer(**layer) for layer in values.pop("layers"))
            preprocessing = Preprocessing(wants["order"], float(wants["range"]), mean, std)
            return cls(layers=layers, preprocessing=preprocessing, **values)
        except ManifestError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"is not a model's manifest: {type(error).__name__}: {error}") from error
