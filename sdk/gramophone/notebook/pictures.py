"""Pictures as PNG files, which all notebooks display."""

from __future__ import annotations

import io

from ..images import decode

_PNG = b"\x89PNG\r\n\x1a\n"


def display_png(data: bytes, longest: int) -> bytes | None:
    """Returns a PNG of a picture file, reduced to at most `longest` pixels on its longest side.

    A PNG that is small enough is returned unchanged. None for a file that is not a picture.
    """
    from PIL import Image

    try:
        image = decode(data)
    except Exception:
        return None
    if data.startswith(_PNG) and max(image.size) <= longest:
        return data
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
