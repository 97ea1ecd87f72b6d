"""Contact sheets: one image with many pictures and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .images import on_white

if TYPE_CHECKING:
    from PIL import Image

Row = Sequence["tuple[Image.Image | None, str]"]


def contact_sheet(rows: Sequence[Row], *, cell: int = 256, margin: int = 12) -> Image.Image:
    """Draws pictures in rows on a white sheet, each with its caption below.

    Args:
        rows: for each row its (picture, caption) pairs; a picture of None leaves the cell empty.
        cell: side in pixels of the square cell that each picture is resized to fit.
        margin: space between cells in pixels.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    font = ImageFont.load_default(size=max(11, cell // 18))
    line = round(font.size * 1.8) if isinstance(font, ImageFont.FreeTypeFont) else 16
    columns = max(len(row) for row in rows)
    width = margin + columns * (cell + margin)
    height = margin + len(rows) * (cell + line + margin)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, (picture, caption) in enumerate(row):
            x, y = margin + j * (cell + margin), margin + i * (cell + line + margin)
            if picture is not None:
                fitted = ImageOps.contain(on_white(picture).convert("RGB"), (cell, cell))
                sheet.paste(fitted, (x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2))
            draw.text((x + cell / 2, y + cell + line / 2), caption, fill="black", font=font, anchor="mm")
    return sheet
