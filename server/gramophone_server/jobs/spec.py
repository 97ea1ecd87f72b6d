"""What a job is asked to do: validated, complete, and the same whoever asks."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from ..models.layers import PoolingName

Kind = Literal["style", "content", "transfer"]
OptimizerName = Literal["lbfgs", "adam"]
InitName = Literal["noise", "content", "image"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
FitName = Literal["longest_side", "square"]
FormatName = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True)
class Picture:
    """A decoded picture at the size it is used in.

    Attributes:
        width, height: pixels.
        rgb: height · width · 3 bytes, sRGB, row by row.
        sha256: of the file it came from, hexadecimal.
    """

    width: int
    height: int
    rgb: bytes
    sha256: str

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of it: everything but the pixels."""
        return {"sha256": self.sha256, "width": self.width, "height": self.height}


@dataclass(frozen=True)
class StylePicture:
    """A picture whose style is painted with, and its share, where the shares of all styles of a job sum to 1."""

    picture: Picture
    share: float

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of it."""
        return {**self.picture.recipe(), "share": self.share}


@dataclass(frozen=True)
class LayerWeight:
    """A layer and the factor of its loss."""

    layer: str
    weight: float


@dataclass(frozen=True)
class PreviewSpec:
    """Previews: one every `every` progress events (0: none), at most `size` pixels a side."""

    every: int
    size: int
    format: FormatName


@dataclass(frozen=True)
class JobSpec:
    """A job, with every default filled in. The fields mean what those of the same name in the contract mean."""

    kind: Kind
    model: str
    width: int
    height: int
    content: Picture | None
    styles: tuple[StylePicture, ...]
    content_layers: tuple[LayerWeight, ...]
    style_layers: tuple[LayerWeight, ...]
    content_weight: float
    style_weight: float
    size: int
    fit: FitName
    iterations: int
    optimizer: OptimizerName
    learning_rate: float
    init: InitName
    init_image: Picture | None
    seed: int
    precision: PrecisionName
    pooling: PoolingName
    tv_weight: float
    report_every: int
    preview: PreviewSpec
    time_limit: float | None

    def recipe(self) -> dict[str, Any]:
        """The job as JSON types: all that decides the result's bytes, and nothing that does not."""
        skipped = {"preview"}
        return {f.name: _json(getattr(self, f.name)) for f in fields(self) if f.name not in skipped}


def _json(value: Any) -> Any:
    match value:
        case Picture() | StylePicture():
            return value.recipe()
        case LayerWeight():
            return {"layer": value.layer, "weight": value.weight}
        case tuple():
            return [_json(item) for item in value]
        case _:
            return value
