"""JobSpec: a job's validated request with all defaults filled in."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any

from ..models.layers import PaddingName
from .options import JobKind, StyleLoss, StyleLossWeight, SynthesisOptions

_SEED_WITHOUT_NOISE = (
    "options.seed changes nothing, because the initial canvas has no noise; to paint another picture, set options.init "
    "to noise or blend."
)


@dataclass(frozen=True)
class Picture:
    """A decoded picture, scaled to the size that the job uses.

    Attributes:
        width, height: size in pixels.
        rgb: sRGB, row by row: height · width · 3 bytes, or 4 bytes per pixel with alpha; empty if the pixels have not
            been read.
        sha256: SHA-256 of the picture file, hexadecimal.
        blob: SHA-256 of `rgb`, which names the stored file of the pixels; empty if they are not stored.
        warning: a defect of the picture file, as a sentence; empty if there is none.
        alpha: whether the pixels have straight alpha, so that parts of the picture are transparent.
    """

    width: int
    height: int
    rgb: bytes
    sha256: str
    blob: str = ""
    warning: str = ""
    alpha: bool = False

    @property
    def channels(self) -> int:
        """Number of bytes of a pixel."""
        return 4 if self.alpha else 3

    @property
    def pixels(self) -> bytes:
        """`rgb`, by the name that `Mask` has too."""
        return self.rgb

    @property
    def size(self) -> int:
        """Number of bytes of the pixels, even if they have not been read."""
        return self.channels * self.width * self.height

    def with_pixels(self, read: Callable[[str], bytes]) -> "Picture":
        """Returns the picture with its pixels, which `read` loads by blob name."""
        return replace(self, rgb=read(self.blob)) if self.blob else self

    def without_pixels(self) -> "Picture":
        """Returns the picture without its pixels; it keeps the blob's name."""
        return replace(self, rgb=b"")

    def recipe(self) -> dict[str, Any]:
        """Returns the entry in a recipe, as JSON types and without pixels."""
        return {"sha256": self.sha256, "width": self.width, "height": self.height}


@dataclass(frozen=True)
class Mask:
    """A mask: a region of a picture with soft edges.

    Attributes:
        width, height: size in pixels.
        levels: height · width bytes, 0 outside to 255 inside; empty if they have not been read.
        sha256: SHA-256 of the picture file, hexadecimal.
        blob: SHA-256 of `levels`, which names their stored file; empty if they are not stored. For a region of a map,
            that of the indices of all its regions.
        warning: a defect of the picture file, as a sentence; empty if there is none.
        color: for a region of a map, its color, "#rrggbb"; empty for a mask.
        index: for a region of a map, its index in the stored file.
    """

    width: int
    height: int
    levels: bytes
    sha256: str
    blob: str = ""
    warning: str = ""
    color: str = ""
    index: int = 0

    @property
    def key(self) -> str:
        """A name that differs for masks with different levels of the same size."""
        return self.sha256 + self.color

    @property
    def pixels(self) -> bytes:
        """`levels`, by the name that `Picture` has too."""
        return self.levels

    @property
    def size(self) -> int:
        """Number of bytes of the levels, even if they have not been read."""
        return self.width * self.height

    def with_pixels(self, read: Callable[[str], bytes]) -> "Mask":
        """Returns the mask with its levels, which `read` loads by blob name."""
        if not self.blob:
            return self
        levels = read(self.blob)
        return replace(self, levels=levels.translate(_inside(self.index)) if self.color else levels)

    def without_pixels(self) -> "Mask":
        """Returns the mask without its levels; it keeps the blob's name."""
        return replace(self, levels=b"")

    @property
    def is_black(self) -> bool:
        """Whether all levels are 0, so that the mask selects nothing."""
        return self.levels.count(0) == len(self.levels)

    def recipe(self) -> dict[str, Any]:
        """Returns the entry in a recipe, as JSON types and without pixels."""
        return {"sha256": self.sha256, "color": self.color} if self.color else {"sha256": self.sha256}


def _inside(index: int) -> bytes:
    """Returns the table of `bytes.translate` that maps an index to 255 and all others to 0."""
    return bytes(255 if value == index else 0 for value in range(256))


@dataclass(frozen=True)
class StylePicture:
    """A style picture of a job; a picture with a map counts as one for each of its regions.

    Attributes:
        share: weight of the style; the shares of all styles of a job sum to 1, or to the area of the regions of maps.
        mask: region of the canvas that gets the style; None for the whole canvas.
        source_mask: region of the picture that the style is taken from; None for the whole picture.
    """

    picture: Picture
    share: float
    mask: Mask | None = None
    source_mask: Mask | None = None

    def recipe(self) -> dict[str, Any]:
        """Returns the style's entry in a recipe, as JSON types."""
        return {
            **self.picture.recipe(),
            "share": self.share,
            "mask": self.mask.recipe() if self.mask else None,
            "source_mask": self.source_mask.recipe() if self.source_mask else None,
        }


@dataclass(frozen=True)
class LayerWeight:
    """A layer and the weight of its loss."""

    layer: str
    weight: float


@dataclass(frozen=True)
class StyleLayer(LayerWeight):
    """A layer, the weight of a style loss at it, and the name of the loss; `layer` is empty for the canvas itself."""

    loss: StyleLoss


@dataclass(frozen=True)
class LevelSpec:
    """A level of the pyramid.

    Attributes:
        width, height: size of its canvas in pixels.
        iterations: its share of the job's iterations.
        model: name of the model whose losses are optimized; empty for the job's own model.
    """

    width: int
    height: int
    iterations: int
    model: str = ""

    def recipe(self) -> dict[str, Any]:
        """Returns the level's entry in a recipe, as JSON types."""
        return {name: value for name, value in vars(self).items() if name != "model" or value}


@dataclass(frozen=True)
class JobSpec:
    """A job with all defaults filled in. Fields mean the same as the contract's fields of the same name.

    Attributes:
        width, height: size of the canvas in pixels.
        style_layers: the layers of each style loss, with the product of the weights of layer and loss.
        levels: levels of the pyramid, from coarse to fine; the last is the canvas.
    """

    kind: JobKind
    width: int
    height: int
    content: Picture | None
    styles: tuple[StylePicture, ...]
    content_layers: tuple[LayerWeight, ...]
    style_layers: tuple[StyleLayer, ...]
    content_weight: float
    style_weight: float
    init_image: Picture | None
    levels: tuple[LevelSpec, ...]
    options: SynthesisOptions

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.options.model

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models that the job needs; the first one is `model`."""
        return tuple(dict.fromkeys([self.model, *(level.model or self.model for level in self.levels)]))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers that the job needs, of each of its models."""
        names = (layer.layer for layer in (*self.style_layers, *self.content_layers))
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def style_losses(self) -> tuple[StyleLoss, ...]:
        """Names of all style losses of the job."""
        return tuple(dict.fromkeys(layer.loss for layer in self.style_layers))

    @property
    def wraps(self) -> tuple[bool, bool]:
        """Whether opposite edges of the canvas are neighbors: along the vertical and along the horizontal axis."""
        return wraps_of(self.options)

    @property
    def map_padding(self) -> PaddingName:
        """Padding of the canvas's and the content's feature maps along axes that do not wrap.

        "margin" adds a margin to the canvas, and pads feature maps with zeros.
        """
        padding = self.options.padding
        return padding if padding in ("zeros", "replicate") else "zeros"

    @property
    def style_padding(self) -> PaddingName:
        """Padding of the styles' feature maps; a canvas without edges must not learn the zeros around a style."""
        return "replicate" if self.options.padding == "circular" else self.map_padding

    @property
    def depends_on_seed(self) -> bool:
        """Whether the initial canvas has noise, which the seed draws."""
        match self.options.init:
            case "content" | "image":
                return False
            case "blend":
                return self.options.init_noise > 0
            case _:
                return True

    @property
    def warnings(self) -> list[str]:
        """Defects of the files of pictures and masks, without duplicates, and a seed that changes nothing."""
        found = dict.fromkeys(part.warning for part in self.pictures() if part.warning)
        if self.options.seed and not self.depends_on_seed:
            found[_SEED_WITHOUT_NOISE] = None
        return list(found)

    def with_options(self, **options: Any) -> "JobSpec":
        """Returns the job with some options replaced."""
        return replace(self, options=replace(self.options, **options))

    def without_pixels(self) -> "JobSpec":
        """Returns the job without pixels; pictures and masks keep their sizes and blob names."""
        return self.with_each(lambda part: part.without_pixels())

    def with_pixels(self, read: Callable[[str], bytes]) -> "JobSpec":
        """Returns the job with all pixels, which `read` loads by blob name; equal pixels are loaded once."""
        once = cache(read)
        return self.with_each(lambda part: part.with_pixels(once))

    def pictures(self) -> Iterator[Picture | Mask]:
        """Yields all pictures and masks of the job."""
        for style in self.styles:
            yield from (part for part in (style.picture, style.mask, style.source_mask) if part is not None)
        yield from (picture for picture in (self.content, self.init_image) if picture is not None)

    def with_each(self, change: Callable[[Any], Any]) -> "JobSpec":
        """Returns the job with `change` applied to each picture and mask."""
        styles = tuple(
            replace(
                style,
                picture=change(style.picture),
                mask=style.mask and change(style.mask),
                source_mask=style.source_mask and change(style.source_mask),
            )
            for style in self.styles
        )
        content, start = self.content and change(self.content), self.init_image and change(self.init_image)
        return replace(self, content=content, init_image=start, styles=styles)

    def recipe(self) -> dict[str, Any]:
        """Returns the job as JSON types: exactly what determines the bytes of the result."""
        own = {f.name: _json(getattr(self, f.name)) for f in fields(self) if f.name != "options"}
        options = {name: value for name, value in asdict(self.options).items() if name != "preview"}
        return {**own, **options}


def wraps_of(options: SynthesisOptions) -> tuple[bool, bool]:
    """Returns whether the vertical and whether the horizontal axis wraps."""
    return options.wrap in ("y", "both"), options.wrap in ("x", "both")


def _json(value: Any) -> Any:
    match value:
        case Picture() | StylePicture() | LevelSpec():
            return value.recipe()
        case LayerWeight() | StyleLossWeight():
            return asdict(value)
        case tuple():
            return [_json(item) for item in value]
        case _:
            return value
