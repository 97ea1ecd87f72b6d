"""A margin enlarges the canvas; pictures on the canvas are extended by reflection, and the result is cropped."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramophone import Style
from gramophone_server.messages.spec import LevelSpec, Mask, StylePicture
from gramophone_server.worker.margin import PIXELS, with_margin, without_margin
from tests.harness import png
from tests.messages.specs import PICTURE, make_spec

from .painting import finished, one_thread, paint, prepare

SIDE = 48
GROWN = SIDE + 2 * PIXELS
# A style is scaled to the size of the canvas; this factor gives it the size of the canvas without margin.
SCALE = SIDE / GROWN
LARGE = Style(png(seed=2), scale=SCALE)
HALF = np.repeat([[0, 255]], SIDE, axis=0).repeat(SIDE // 2, axis=1).astype(np.uint8)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def grown(picture: np.ndarray) -> Image.Image:
    """Extends a picture by the margin, by reflection."""
    around = [(PIXELS, PIXELS)] * 2 + [(0, 0)] * (picture.ndim - 2)
    return Image.fromarray(np.pad(picture, around, mode="reflect"))


def inside(picture: np.ndarray) -> np.ndarray:
    """Crops the margin."""
    return picture[PIXELS:-PIXELS, PIXELS:-PIXELS]


@pytest.mark.parametrize(
    "options", [{}, {"init": "image"}, {"color": "luminance"}, {"bit_depth": 16}, {"tile_size": 64}]
)
def test_a_job_with_a_margin_equals_the_middle_of_a_larger_job(options: dict[str, Any]) -> None:
    content, start = pixels(png(SIDE, SIDE, seed=5)), pixels(png(SIDE, SIDE, seed=6))
    small: dict[str, Any] = options | ({"init": Image.fromarray(start)} if options.get("init") else {})
    large: dict[str, Any] = options | ({"init": grown(start)} if options.get("init") else {})
    got = paint(content=Image.fromarray(content), size=SIDE, scales=1, padding="margin", **small)
    expected = paint(content=grown(content), size=GROWN, scales=1, padding="zeros", styles=LARGE, **large)
    assert got.picture.shape == (SIDE, SIDE, 3)
    assert np.array_equal(got.picture, inside(expected.picture))
    assert got.loss == expected.loss


def test_masks_are_extended_too() -> None:
    def styles(mask: Image.Image, scale: float) -> list[Style]:
        return [Style(png(seed=2), mask=mask, scale=scale), Style(png(seed=3), scale=scale)]

    content = pixels(png(SIDE, SIDE, seed=5))
    small, large = styles(Image.fromarray(HALF), 1.0), styles(grown(HALF), SCALE)
    got = paint(content=Image.fromarray(content), styles=small, size=SIDE, scales=1, padding="margin")
    expected = paint(content=grown(content), styles=large, size=GROWN, scales=1, padding="zeros")
    assert np.array_equal(got.picture, inside(expected.picture))


def test_previews_of_all_levels_are_cropped() -> None:
    job = prepare(size=128, scales=3, iterations=24, report_every=2, padding="margin")
    with one_thread():
        shapes = {job.preview(frame)().shape for frame in job.synthesis}
    assert shapes == {(32, 32, 3), (64, 64, 3), (128, 128, 3)}
    assert finished(job).picture.shape == (128, 128, 3)


def test_the_sizes_of_pictures_without_pixels_are_extended() -> None:
    mask = Mask(64, 64, b"", "1" * 64)
    spec = make_spec(padding="margin", content=PICTURE, init_image=PICTURE, styles=(StylePicture(PICTURE, 1.0, mask),))
    large = with_margin(spec)
    assert (large.width, large.height, large.levels[-1]) == (80, 80, LevelSpec(80, 80, 10))
    assert large.content is not None and large.init_image is not None and large.styles[0].mask is not None
    assert {(part.width, part.height) for part in (large.content, large.init_image, large.styles[0].mask)} == {(80, 80)}
    assert large.styles[0].picture == PICTURE, "a style is not on the canvas"
    assert large.content.sha256 != PICTURE.sha256, "the extended picture has other features"


def test_other_paddings_have_no_margin() -> None:
    spec, picture = make_spec(), np.zeros((64, 64, 3), np.uint8)
    assert with_margin(spec) is spec
    assert without_margin(picture, spec) is picture
    assert without_margin(np.zeros((80, 80, 3)), spec.with_options(padding="margin")).shape == (64, 64, 3)
