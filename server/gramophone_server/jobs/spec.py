"""What a job is asked to do: validated, complete, and the same whoever asks."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ..models.layers import LossScaleName, PaddingName, PoolingName

Kind = Literal["style", "content", "transfer"]
OptimizerName = Literal["lbfgs", "adam"]
InitName = Literal["noise", "content", "image", "style_statistics", "blend"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
FitName = Literal["longest_side", "square"]
FormatName = Literal["png", "jpeg", "webp", "tiff"]
ColorName = Literal["style", "luminance", "match", "histogram"]


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
class Mask:
    """A region of a picture: height · width bytes, 0 outside to 255 inside, and the SHA-256 of its file."""

    width: int
    height: int
    levels: bytes
    sha256: str

    @property
    def is_black(self) -> bool:
        """Whether nothing is inside."""
        return self.levels.count(0) == len(self.levels)

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of it: everything but the pixels."""
        return {"sha256": self.sha256}


@dataclass(frozen=True)
class StylePicture:
    """A picture whose style is painted with.

    Attributes:
        share: its part, where the shares of all styles of a job sum to 1.
        mask: the region of the canvas it is painted in; None for everywhere.
        source_mask: the region of the picture that is taken; None for all of it.
    """

    picture: Picture
    share: float
    mask: Mask | None = None
    source_mask: Mask | None = None

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of it."""
        return {
            **self.picture.recipe(),
            "share": self.share,
            "mask": self.mask.recipe() if self.mask else None,
            "source_mask": self.source_mask.recipe() if self.source_mask else None,
        }


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
class ResultSpec:
    """The result's file: "png" or "tiff", with 8 or 16 bits per channel."""

    format: FormatName
    bit_depth: int


@dataclass(frozen=True)
class LevelSpec:
    """A level of the pyramid: its canvas in pixels, and its updates."""

    width: int
    height: int
    iterations: int


@dataclass(frozen=True)
class JobSpec:
    """A job, with every default filled in. The fields mean what those of the same name in the contract mean.

    Attributes:
        levels: of the pyramid, coarse to fine; the last is the canvas.
        paced: whether progress events are as far apart as an eye needs (worker/pace.py); else each report is one.
    """

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
    levels: tuple[LevelSpec, ...]
    padding: PaddingName
    init_noise: float
    averaging: float
    plateau: float
    color: ColorName
    loss_scale: LossScaleName
    lbfgs_history: int
    result: ResultSpec
    tile_size: int | None
    paced: bool = False

    def without_pixels(self) -> "JobSpec":
        """The job with its pictures' sizes but not their pixels, for whoever only wants to know what it costs."""

        def bare(picture: Picture | None) -> Picture | None:
            return picture and replace(picture, rgb=b"")

        styles = tuple(
            replace(style, picture=replace(style.picture, rgb=b""), mask=style.mask and replace(style.mask, levels=b""))
            for style in self.styles
        )
        return replace(self, content=bare(self.content), init_image=bare(self.init_image), styles=styles)

    def recipe(self) -> dict[str, Any]:
        """The job as JSON types: all that decides the result's bytes, and nothing that does not."""
        skipped = {"preview", "paced"}
        return {f.name: _json(getattr(self, f.name)) for f in fields(self) if f.name not in skipped}


def _json(value: Any) -> Any:
    match value:
        case Picture() | StylePicture():
            return value.recipe()
        case LayerWeight() | LevelSpec() | ResultSpec():
            return asdict(value)
        case tuple():
            return [_json(item) for item in value]
        case _:
            return value
