"""What the front and a decoder process tell each other."""

from dataclasses import dataclass
from typing import Literal

Region = Literal["rgb", "mask"]


class PictureError(ValueError):
    """Why a file cannot be used as a picture, as a sentence that begins with a verb."""


class StructureError(PictureError):
    """A file is built to cost far more than its size."""


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself.

    Attributes:
        width, height: of the picture as it is to be seen, turned as its EXIF data says; pixels.
        memory: bytes that decoding it takes at most.
        sha256: of the file, hexadecimal.
    """

    width: int
    height: int
    memory: int
    sha256: str

    @property
    def pixels(self) -> int:
        """Their number."""
        return self.width * self.height


@dataclass(frozen=True)
class Cut:
    """What is wanted of a picture: its pixels, or its brightness as a mask, squeezed to width x height."""

    width: int
    height: int
    region: Region = "rgb"


@dataclass(frozen=True)
class Pixels:
    """Pixels in a file.

    Attributes:
        blob: SHA-256 of the pixels, which is the name of their file.
        black: whether all of them are 0.
        source_black: whether the picture was black all over before it was scaled.
        warning: what is wrong with the file, as a sentence that begins with a verb; empty if nothing is.
    """

    blob: str
    black: bool
    source_black: bool
    warning: str = ""
