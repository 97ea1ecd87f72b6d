"""Writes decoded pixels as picture files."""

from pathlib import Path

from PIL import Image

from .messages import PixelKind, PixelSpec

_MODES: dict[PixelKind, str] = {"rgb": "RGB", "rgba": "RGBA", "mask": "L"}
# zlib's fastest level: its files are some percent larger.
_LEVEL = 1


def write_png(pixels: Path, spec: PixelSpec, folder: Path) -> str:
    """Writes a file of pixels, row by row, as a PNG into a folder; returns the name of the PNG.

    Raises:
        OSError: the disk is full, or a file cannot be read or written.
    """
    name = "picture.png"
    image = Image.frombytes(_MODES[spec.kind], (spec.width, spec.height), pixels.read_bytes())
    image.save(folder / name, "PNG", compress_level=_LEVEL)
    return name
