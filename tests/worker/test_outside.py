"""outside="keep": the content's pixels outside all masks are in the result, exactly, and the inside is painted."""

import io
from typing import Any

import numpy as np
import png
import pytest
from PIL import Image

from gramophone import Style
from tests.harness import encode

from .painting import paint, prepare

SIDE = 64


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


CONTENT = picture(1)
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[10:40, 12:50] = 255
SOFT = np.asarray(Image.fromarray(MASK).resize((16, 16)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("mask", [MASK, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam"},
        {"init": "noise", "scales": 2},
        {"color": "luminance"},
        {"padding": "zeros", "tile_size": 64},
        {"averaging": 0.9},
    ],
    ids=str,
)
def test_pixels_outside_are_the_contents(mask: np.ndarray, options: dict[str, Any]) -> None:
    styles = Style(picture(2), mask=Image.fromarray(mask))
    how: dict[str, Any] = {"iterations": 8, "size": SIDE, "outside": "keep"} | options
    made = paint("transfer", content=CONTENT, styles=styles, **how).picture
    assert np.array_equal(made[mask == 0], np.asarray(CONTENT)[mask == 0])
    assert np.abs(made[mask == 255].astype(int) - np.asarray(CONTENT)[mask == 255]).mean() > 3


def test_without_it_the_outside_is_painted() -> None:
    styles = Style(picture(2), mask=Image.fromarray(MASK))
    made = paint("transfer", content=CONTENT, styles=styles, iterations=8, size=SIDE, init="noise").picture
    assert not np.array_equal(made[MASK == 0], np.asarray(CONTENT)[MASK == 0])


def test_previews_show_the_content_outside() -> None:
    styles = Style(picture(2), mask=Image.fromarray(MASK))
    job = prepare("transfer", content=CONTENT, styles=styles, iterations=4, size=SIDE, outside="keep", report_every=2)
    shown = job.preview(next(iter(job.synthesis)))()
    assert np.array_equal(shown[MASK == 0], np.asarray(CONTENT)[MASK == 0])


def test_16_bits_are_the_contents_levels() -> None:
    styles = Style(picture(2), mask=Image.fromarray(MASK))
    how: dict[str, Any] = {"iterations": 2, "size": SIDE, "outside": "keep", "result_format": "tiff", "bit_depth": 16}
    made = paint("transfer", content=CONTENT, styles=styles, **how).picture
    assert np.array_equal(made[MASK == 0], np.asarray(CONTENT).astype(np.uint16)[MASK == 0] * 257)


def deep(pixels: np.ndarray) -> bytes:
    """A PNG with 16 bits per channel."""
    buffer = io.BytesIO()
    height, width, channels = pixels.shape
    writer = png.Writer(width, height, bitdepth=16, greyscale=False, alpha=channels == 4)
    writer.write(buffer, pixels.reshape(height, -1))
    return buffer.getvalue()


LEVELS = np.random.default_rng(0).integers(0, 1 << 16, (SIDE, SIDE, 3), np.uint16)
GRAY = Image.fromarray(np.random.default_rng(1).integers(0, 256, (SIDE, SIDE), np.uint8))
LARGE = picture(4).resize((150, 150), Image.Resampling.BICUBIC)
SMALL = picture(5).resize((40, 40))
KINDS: dict[str, tuple[Any, Any]] = {
    "16 bits": (deep(LEVELS), LEVELS >> 8),
    "gray": (GRAY, GRAY.convert("RGB")),
    "JPEG": (encode(CONTENT, "JPEG"), Image.open(io.BytesIO(encode(CONTENT, "JPEG")))),
    "scaled down": (LARGE, LARGE.resize((SIDE, SIDE), Image.Resampling.BILINEAR)),
    "scaled up": (SMALL, SMALL.resize((SIDE, SIDE), Image.Resampling.BILINEAR)),
}


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("name", KINDS)
def test_contents_of_any_kind_are_kept_as_they_are_at_the_size_of_the_canvas(name, bit_depth):
    content, expected = KINDS[name]
    styles = Style(picture(2), mask=Image.fromarray(MASK))
    how: dict[str, Any] = {"iterations": 2, "size": SIDE, "outside": "keep", "bit_depth": bit_depth}
    made = paint("transfer", content=content, styles=styles, **how).picture
    factor = 257 if bit_depth == 16 else 1
    assert np.array_equal(made[MASK == 0], np.asarray(expected).astype(np.uint16)[MASK == 0] * factor)


def test_gray_is_kept_gray_beside_a_style_in_color():
    styles = Style(picture(2), mask=Image.fromarray(MASK))
    made = paint("transfer", content=GRAY, styles=styles, iterations=4, size=SIDE, outside="keep").picture.astype(int)
    assert np.ptp(made[MASK == 0], axis=1).max() == 0
    assert np.ptp(made[MASK == 255], axis=1).max() > 10
