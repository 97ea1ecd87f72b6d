"""Writes small copies of pictures, for lists and histories."""

from pathlib import Path

from PIL import Image

from .messages import SmallPicture

# Pillow's JPEG quality.
_QUALITY = 80


def write_small(image: Image.Image, size: int, folder: Path) -> SmallPicture:
    """Writes a copy with at most `size` pixels on its longest side into a folder: a JPEG, or a PNG if it has alpha.

    Args:
        image: a picture in 8-bit sRGB, RGB or RGBA.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    has_alpha = image.mode == "RGBA"
    # Weight colors by alpha, so that the colors of transparent pixels do not bleed into others.
    small = image.convert("RGBa") if has_alpha else image
    small.thumbnail((size, size), Image.Resampling.BOX if max(image.size) > 8 * size else Image.Resampling.LANCZOS)
    name = f"small-{size}"
    if has_alpha:
        small.convert("RGBA").save(folder / name, "PNG")
        return SmallPicture(name, "png", *small.size)
    small.convert("RGB").save(folder / name, "JPEG", quality=_QUALITY)
    return SmallPicture(name, "jpeg", *small.size)
