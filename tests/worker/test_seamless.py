"""padding="circular": results that tile, from noise and from pictures, along each axis."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramophone import Style
from gramophone_server.messages.options import Wrap
from gramophone_server.messages.pyramid import levels_of
from gramophone_server.worker.margin import with_margin
from tests.messages.specs import PICTURE, make_spec

from .painting import finished, one_thread, paint, prepare
from .test_outside import picture


def texture(seed: int = 0, side: int = 64) -> Image.Image:
    """Returns fine colored noise, whose rows and columns differ less than those of pictures."""
    draws = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return Image.fromarray(draws).resize((side, side), Image.Resampling.BICUBIC)


def seam(picture: np.ndarray, axis: int) -> float:
    """Returns the mean difference of the rows (axis 0) or columns across the edges ÷ the median inside."""
    levels = picture.astype(float)
    steps = np.abs(np.roll(levels, -1, axis) - levels).mean(axis=(1 - axis, 2))
    return float(steps[-1] / np.median(steps[:-1]))


def textures(**options: Any) -> list[np.ndarray]:
    """Paints four textures: the seam of a single one varies by about 5 %, as its rows do."""
    return [paint("style", content=texture(), iterations=40, scales=1, seed=n, **options).picture for n in range(4)]


def ramp(height: int = 48, width: int = 64) -> Image.Image:
    """Returns a picture that is much brighter and redder at its right and lower edges, with some detail."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    smooth = np.stack([200 * columns, 100 * rows, 200 - 100 * rows], axis=2)
    return Image.fromarray((smooth + np.random.default_rng(0).integers(0, 30, smooth.shape)).astype(np.uint8))


@pytest.mark.parametrize("wrap", ["x", "y", "both"])
def test_a_texture_has_no_seam_along_the_axes_that_wrap(wrap: Wrap) -> None:
    made = textures(size=64, wrap=wrap)
    for axis, name in enumerate("yx"):
        ratio = np.mean([seam(each, axis) for each in made])
        if wrap in (name, "both"):
            assert ratio <= 1.05, name
        else:
            assert ratio > 1.15, name


def test_a_size_that_is_no_multiple_of_the_stride_has_no_seam_either() -> None:
    made = textures(size=58, wrap="both")
    assert made[0].shape == (58, 58, 3)
    assert np.mean([seam(each, axis) for each in made for axis in (0, 1)]) <= 1.05


@pytest.mark.parametrize("options", [{}, {"init": "noise"}, {"color": "luminance"}, {"scales": 2}], ids=str)
def test_a_picture_becomes_one_that_tiles(options: dict[str, Any]) -> None:
    how: dict[str, Any] = {"content": ramp(), "styles": Style(texture()), "size": 64, "iterations": 30} | options
    flat, torus = (paint("transfer", wrap=wrap, **how).picture for wrap in ("none", "both"))
    assert torus.shape == flat.shape == (48, 64, 3)
    assert min(seam(flat, axis) for axis in (0, 1)) > 1.5
    assert max(seam(torus, axis) for axis in (0, 1)) < 1.3


def test_a_content_is_reconstructed_without_its_jump() -> None:
    made = paint("content", content=ramp(), size=64, iterations=40, wrap="x", init="content", layers=["conv1_1"])
    assert seam(np.asarray(ramp()), 1) > 5
    assert seam(made.picture, 1) < 1.5
    # Away from the edges it is the content; its other axis keeps its jump.
    middle = (slice(None), slice(24, 40))
    assert np.abs(made.picture[middle].astype(int) - np.asarray(ramp())[middle]).mean() < 20
    assert seam(made.picture, 0) > 5


@pytest.mark.parametrize("wrap", ["x", "both"])
@pytest.mark.parametrize("size", [192, 186])
def test_tiles_paint_what_the_whole_canvas_paints(wrap: Wrap, size: int) -> None:
    how: dict[str, Any] = {"size": size, "iterations": 2, "scales": 1, "wrap": wrap, "tv_weight": 0.1}
    whole, tiled = (
        paint("transfer", content=picture(1), styles=picture(2), **how, **tiles) for tiles in ({}, {"tile_size": 64})
    )
    assert tiled.loss == pytest.approx(whole.loss, rel=1e-4)
    assert np.abs(tiled.picture.astype(int) - whole.picture).max() <= 1


@pytest.mark.parametrize("loss", ["sliced_wasserstein", "nearest_neighbor", "mean_covariance"])
def test_other_losses_see_a_canvas_without_edges_at_each_size(loss: Any) -> None:
    how: dict[str, Any] = {"size": 58, "iterations": 30, "scales": 1, "style_loss": loss}
    flat, torus = (
        [paint("style", content=texture(), seed=n, wrap=wrap, **how).picture for n in range(2)]
        for wrap in ("none", "both")
    )
    ratios = [np.mean([seam(each, axis) for each in made for axis in (0, 1)]) for made in (flat, torus)]
    assert ratios[1] < 1.15 < ratios[0]


def test_an_interrupted_job_resumes_with_the_same_bytes() -> None:
    how: dict[str, Any] = {"size": 64, "iterations": 16, "scales": 2, "report_every": 1, "wrap": "both"}
    expected = finished(prepare("style", content=texture(), **how)).picture
    interrupted, resumed = (prepare("style", content=texture(), **how) for _ in range(2))
    with one_thread():
        # The second update is the last one of the first level.
        for _, _ in zip(range(2), interrupted.synthesis, strict=False):
            pass
        resumed.resume(interrupted.synthesis.state())
    assert np.array_equal(finished(resumed).picture, expected)


def test_an_axis_that_does_not_wrap_has_a_margin() -> None:
    grown = with_margin(make_spec(padding="circular", wrap="x", content=PICTURE))
    assert (grown.width, grown.height) == (64, 80)
    assert grown.content is not None
    assert (grown.content.width, grown.content.height) == (64, 80)
    assert with_margin(make_spec(padding="circular", wrap="both")).height == 64
    assert paint("style", content=texture(), size=32, wrap="x").picture.shape == (32, 32, 3)


def test_styles_do_not_teach_the_canvas_zeros_at_their_edges() -> None:
    spec = make_spec(padding="circular", wrap="both")
    assert (spec.style_padding, spec.map_padding) == ("replicate", "zeros")
    assert make_spec(padding="zeros").style_padding == "zeros"


def test_a_derived_odd_side_becomes_even() -> None:
    how: dict[str, Any] = {"content": ramp(33, 64), "styles": Style(texture()), "size": 64, "iterations": 1}
    assert paint("transfer", wrap="both", **how).picture.shape == (34, 64, 3)
    assert paint("transfer", wrap="x", **how).picture.shape == (33, 64, 3)


def test_coarse_levels_are_multiples_of_the_stride_along_an_axis_that_wraps() -> None:
    def sizes(wraps: tuple[bool, bool]) -> list[tuple[int, int]]:
        levels = levels_of("style", "lbfgs", (500, 460), 80, number=3, min_side=16, multiple=16, wraps=wraps)
        return [(level.width, level.height) for level in levels]

    assert sizes((False, False)) == [(125, 115), (250, 230), (500, 460)]
    assert sizes((True, True)) == [(128, 112), (256, 224), (500, 460)]
    assert sizes((False, True)) == [(128, 115), (256, 230), (500, 460)]
