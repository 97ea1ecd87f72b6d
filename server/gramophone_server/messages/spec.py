"""What a job is asked to do: validated, complete, and the same whoever asks."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..models.layers import PaddingName
from .options import JobKind, SynthesisOptions


@dataclass(frozen=True)
class Picture:
    """A decoded picture at the size it is used in.

    Attributes:
        width, height: pixels.
        rgb: height · width · 3 bytes, sRGB, row by row; empty where they have not been read.
        sha256: of the file it came from, hexadecimal.
        blob: SHA-256 of `rgb`, which names the stored file of the pixels; empty if they are in no file.
        warning: what is wrong with the file it came from, as a sentence; empty if nothing is.
    """

    width: int
    height: int
    rgb: bytes
    sha256: str
    blob: str = ""
    warning: str = ""

    @property
    def pixels(self) -> bytes:
        """`rgb`."""
        return self.rgb

    @property
    def size(self) -> int:
        """Bytes of the pixels, whether they have been read or not."""
        return 3 * self.width * self.height

    def with_pixels(self, read: Callable[[str], bytes]) -> "Picture":
        """The picture with the pixels that `read` gives for its blob."""
        return replace(self, rgb=read(self.blob)) if self.blob else self

    def without_pixels(self) -> "Picture":
        """The picture without its pixels; it still names their blob."""
        return replace(self, rgb=b"")

    def recipe(self) -> dict[str, Any]:
        """What a recipe says of it: everything but the pixels."""
        return {"sha256": self.sha256, "width": self.width, "height": self.height}


@dataclass(frozen=True)
class Mask:
    """A region of a picture.

    Attributes:
        width, height: pixels.
        levels: height · width bytes, 0 outside to 255 inside; empty where they have not been read.
        sha256: of the file it came from, hexadecimal.
        blob: SHA-256 of `levels`, which names their stored file; empty if they are in no file.
        warning: what is wrong with the file it came from, as a sentence; empty if nothing is.
    """

    width: int
    height: int
    levels: bytes
    sha256: str
    blob: str = ""
    warning: str = ""

    @property
    def pixels(self) -> bytes:
        """`levels`."""
        return self.levels

    @property
    def size(self) -> int:
        """Bytes of the levels, whether they have been read or not."""
        return self.width * self.height

    def with_pixels(self, read: Callable[[str], bytes]) -> "Mask":
        """The mask with the levels that `read` gives for its blob."""
        return replace(self, levels=read(self.blob)) if self.blob else self

    def without_pixels(self) -> "Mask":
        """The mask without its levels; it still names their blob."""
        return replace(self, levels=b"")

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
class LevelSpec:
    """A level of the pyramid: its canvas in pixels, and its updates."""

    width: int
    height: int
    iterations: int


@dataclass(frozen=True)
class JobSpec:
    """A job, with every default filled in. The fields mean what those of the same name in the contract mean.

    Attributes:
        width, height: of the canvas in pixels.
        levels: of the pyramid, coarse to fine; the last is the canvas.
    """

    kind: JobKind
    width: int
    height: int
    content: Picture | None
    styles: tuple[StylePicture, ...]
    content_layers: tuple[LayerWeight, ...]
    style_layers: tuple[LayerWeight, ...]
    content_weight: float
    style_weight: float
    init_image: Picture | None
    levels: tuple[LevelSpec, ...]
    options: SynthesisOptions

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.options.model

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all layers that it needs."""
        return tuple(layer.layer for layer in (*self.style_layers, *self.content_layers))

    @property
    def map_padding(self) -> PaddingName:
        """What stands around feature maps; with a margin, zeros stand around that."""
        padding = self.options.padding
        return "zeros" if padding == "margin" else padding

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the files of its pictures and masks, each thing once."""
        return list(dict.fromkeys(part.warning for part in self.pictures() if part.warning))

    def with_options(self, **options: Any) -> "JobSpec":
        """The job with other values of some options."""
        return replace(self, options=replace(self.options, **options))

    def without_pixels(self) -> "JobSpec":
        """The job with the sizes and the blobs of its pictures and masks, but not their pixels."""
        return self.with_each(lambda part: part.without_pixels())

    def with_pixels(self, read: Callable[[str], bytes]) -> "JobSpec":
        """The job with the pixels that `read` gives for the blobs of its pictures and masks."""
        return self.with_each(lambda part: part.with_pixels(read))

    def pictures(self) -> Iterator[Picture | Mask]:
        """All pictures and masks of the job."""
        for style in self.styles:
            yield from (part for part in (style.picture, style.mask, style.source_mask) if part is not None)
        yield from (picture for picture in (self.content, self.init_image) if picture is not None)

    def with_each(self, change: Callable[[Any], Any]) -> "JobSpec":
        """The job with each picture and mask changed; `change` gives a picture for a picture, a mask for a mask."""
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
        """The job as JSON types: all that decides the result's bytes, and nothing that does not."""
        own = {f.name: _json(getattr(self, f.name)) for f in fields(self) if f.name != "options"}
        options = {name: value for name, value in asdict(self.options).items() if name != "preview"}
        return {**own, **options}


def _json(value: Any) -> Any:
    match value:
        case Picture() | StylePicture():
            return value.recipe()
        case LayerWeight() | LevelSpec():
            return asdict(value)
        case tuple():
            return [_json(item) for item in value]
        case _:
            return value
