"""Messages between the front and decoder processes."""

from dataclasses import dataclass
from typing import Literal

PixelKind = Literal["rgb", "rgba", "mask"]
"""sRGB of 3 bytes per pixel, with transparent pixels over white; sRGB with straight alpha of 4 bytes per pixel, or of 3
if all pixels are opaque; or brightness of 1 byte per pixel.
"""


class PictureError(ValueError):
    """A file cannot be used as a picture; the message begins with a verb, to follow the name of a field."""


class StructureError(PictureError):
    """A file is built so that decoding costs far more than its size suggests."""


@dataclass(frozen=True)
class Header:
    """Size and cost of a picture file, read without decoding it.

    Attributes:
        width, height: size in pixels after the EXIF orientation is applied.
        memory: maximum number of bytes that decoding takes.
        sha256: SHA-256 of the file, hexadecimal.
    """

    width: int
    height: int
    memory: int
    sha256: str

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


@dataclass(frozen=True)
class PixelSpec:
    """The pixels to decode, scaled to width x height."""

    width: int
    height: int
    kind: PixelKind = "rgb"


@dataclass(frozen=True)
class Pixels:
    """Decoded pixels, in a file.

    Attributes:
        blob: SHA-256 of the pixels, which is the name of their file.
        black: whether all values are 0; with alpha, whether all pixels are fully transparent.
        source_black: the same before scaling.
        warning: a defect of the picture file, as a sentence that begins with a verb; empty if there is none.
        alpha: whether the pixels have alpha, and so 4 bytes each.
    """

    blob: str
    black: bool
    source_black: bool
    warning: str = ""
    alpha: bool = False


@dataclass(frozen=True)
class SmallPicture:
    """A scaled-down copy of a picture, in a file: its name and format, and its size in pixels."""

    file: str
    format: Literal["jpeg", "png"]
    width: int
    height: int


@dataclass(frozen=True)
class Region:
    """A region of a map: its color as "#rrggbb", and the part of the map's pixels that it has, 0 to 1."""

    color: str
    area: float


@dataclass(frozen=True)
class Regions:
    """The regions of a color-coded map, in a file with one byte per pixel: the index of the pixel's region.

    Attributes:
        blob: SHA-256 of the file's content, which is the name of the file.
        regions: the regions by descending area.
        warning: a defect of the map's file, as a sentence that begins with a verb; empty if there is none.
    """

    blob: str
    regions: tuple[Region, ...]
    warning: str = ""
