"""Transparent pixels count in no loss, keep their own colors in the result, and do not change visible ones."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gramophone import Style
from gramophone_server.messages.spec import Picture
from gramophone_server.worker.encode import encode_preview
from gramophone_server.worker.pictures import pixels
from gramophone_server.worker.transparency import filled

from .painting import finished, one_thread, paint, prepare
from .test_outside import picture

SIDE = 64
y, x = np.mgrid[:SIDE, :SIDE]
DISTANCE = np.hypot(x - 30, y - 34)
ALPHA = (255 * np.clip(24 - DISTANCE, 0, 4) / 4).round().astype(np.uint8)
HIDDEN, SOLID = ALPHA == 0, ALPHA == 255


def transparent(seed: int, alpha: np.ndarray = ALPHA, hidden: Any = None) -> Image.Image:
    """A picture with the given alpha, and with the color `hidden` where it is transparent."""
    colors = np.array(picture(seed))
    if hidden is not None:
        colors[alpha == 0] = hidden
    return Image.fromarray(np.dstack([colors, alpha]))


CONTENT = transparent(1)
OWN = np.asarray(CONTENT)


def transfer(content: Image.Image = CONTENT, styles: Any = None, **options: Any) -> np.ndarray:
    how: dict[str, Any] = {"iterations": 6, "size": SIDE} | options
    return paint("transfer", content=content, styles=picture(2) if styles is None else styles, **how).picture


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam"},
        {"init": "noise", "scales": 2},
        {"color": "luminance"},
        {"color": "match"},
        {"color": "histogram"},
        {"padding": "zeros", "tile_size": 64},
        {"averaging": 0.9},
        {"loss_scale": "paper"},
        {"style_loss": "sliced_wasserstein"},
    ],
    ids=str,
)
def test_alpha_comes_back_and_only_visible_pixels_are_painted(options):
    made = transfer(**options)
    assert np.array_equal(made[..., 3], ALPHA)
    assert np.array_equal(made[HIDDEN], OWN[HIDDEN])
    assert np.abs(made[SOLID].astype(int) - OWN[SOLID]).mean() > 2


@pytest.mark.parametrize("options", [{}, {"color": "match"}, {"color": "luminance", "init": "noise", "scales": 2}])
def test_hidden_colors_do_not_change_visible_pixels(options):
    red, green = (transfer(transparent(1, hidden=color), **options) for color in ((255, 0, 0), (0, 255, 0)))
    assert np.array_equal(red[~HIDDEN], green[~HIDDEN])


def test_a_content_reconstruction_keeps_alpha():
    made = paint("content", content=CONTENT, iterations=60, size=SIDE, layers="conv1_1").picture
    assert np.array_equal(made[..., 3], ALPHA) and np.array_equal(made[HIDDEN], OWN[HIDDEN])
    assert np.abs(made[SOLID].astype(int) - OWN[SOLID]).mean() < 8


def test_opaque_alpha_paints_the_picture_without_alpha():
    opaque = transparent(1, np.full_like(ALPHA, 255))
    assert np.array_equal(transfer(opaque), transfer(opaque.convert("RGB")))


def test_transparency_white_composites_over_white():
    flat = Image.alpha_composite(Image.new("RGBA", CONTENT.size, "white"), CONTENT).convert("RGB")
    assert np.array_equal(transfer(transparency="white"), transfer(flat))


def test_hidden_colors_of_a_style_do_not_count():
    red, green = (
        transfer(picture(1), transparent(2, hidden=color), init="style_statistics")
        for color in ((255, 0, 0), (0, 9, 0))
    )
    assert red.shape[2] == 3
    assert np.array_equal(red, green)


def test_the_alpha_of_a_style_acts_like_its_source_mask():
    style = transparent(2)
    rgb = style.convert("RGB")
    visible = Image.fromarray(pixels(filled(as_picture(style))))
    expected = transfer(picture(1), Style(visible, source_mask=Image.fromarray(ALPHA)))
    assert np.array_equal(transfer(picture(1), style), expected)
    assert not np.array_equal(transfer(picture(1), rgb), expected)
    # With a source mask, their product counts.
    half = Image.fromarray(np.where(x < 30, 255, 0).astype(np.uint8))
    product = Image.fromarray(np.where(x < 30, ALPHA, 0).astype(np.uint8))
    expected = transfer(picture(1), Style(visible, source_mask=product))
    assert np.array_equal(transfer(picture(1), Style(style, source_mask=half)), expected)


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("options", [{}, {"init": "noise", "scales": 2}, {"color": "luminance"}], ids=str)
def test_outside_keep_keeps_transparent_contents_exactly(options, bit_depth):
    mask = np.where(y < 30, 255, 0).astype(np.uint8)
    styles = Style(picture(2), mask=Image.fromarray(mask))
    made = transfer(styles=styles, outside="keep", bit_depth=bit_depth, **options)
    kept = (mask == 0) | HIDDEN
    assert np.array_equal(made[kept], OWN[kept].astype(made.dtype) * (257 if bit_depth == 16 else 1))
    assert np.abs(made[~kept & SOLID].astype(int) // (257 if bit_depth == 16 else 1) - OWN[~kept & SOLID]).mean() > 3


def test_16_bits_have_16_bit_alpha():
    made = transfer(bit_depth=16)
    assert made.dtype == np.uint16
    assert np.array_equal(made[..., 3], ALPHA.astype(np.uint16) * 257)


def test_previews_have_alpha_except_jpegs_which_are_on_white():
    job = prepare("transfer", content=CONTENT, styles=picture(2), size=SIDE, iterations=8, scales=2, report_every=1)
    with one_thread():
        shown = [job.preview(frame)() for frame in job.synthesis]
    assert {preview.shape for preview in shown} == {(SIDE // 2, SIDE // 2, 4), (SIDE, SIDE, 4)}
    assert np.array_equal(shown[-1][..., 3], ALPHA)
    for format in ("png", "webp", "jpeg"):
        with Image.open(io.BytesIO(encode_preview(shown[-1], SIDE, format).data)) as image:  # type: ignore[arg-type]
            assert image.mode == ("RGB" if format == "jpeg" else "RGBA")
            corner = image.getpixel((0, 0))
            assert isinstance(corner, tuple)
            assert min(corner) > 250 if format == "jpeg" else corner[3] == 0


def test_gray_pictures_with_hidden_colors_make_gray_results():
    gray = [np.array(picture(seed).convert("L").convert("RGB")) for seed in (1, 2)]
    for colors in gray:
        colors[HIDDEN] = (255, 0, 90)
    content, style = (Image.fromarray(np.dstack([colors, ALPHA])) for colors in gray)
    made = transfer(content, style).astype(int)
    assert np.ptp(made[~HIDDEN][:, :3], axis=1).max() <= 1
    colored = transfer(content, picture(2), color="histogram").astype(int)
    assert np.ptp(colored[~HIDDEN][:, :3], axis=1).max() <= 1


def test_a_job_resumes_with_the_same_bytes():
    how: dict[str, Any] = {"content": CONTENT, "styles": picture(2), "size": SIDE, "iterations": 8, "report_every": 2}
    expected = paint("transfer", **how)
    first, second = prepare("transfer", **how), prepare("transfer", **how)
    with one_thread():
        next(frame for frame in first.synthesis if frame.iteration >= 4)
    second.resume(first.synthesis.state())
    made = finished(second)
    assert np.array_equal(made.picture, expected.picture)
    assert made.loss == expected.loss


def test_only_visible_positions_count_in_the_losses():
    """A transparent area beside the picture changes no loss."""
    wide = np.pad(OWN, [(0, 0), (0, SIDE), (0, 0)])
    start = np.asarray(picture(3))
    losses = []
    for content, canvas in ((OWN, start), (wide, np.pad(start, [(0, 0), (0, SIDE), (0, 0)]))):
        job = prepare(
            "transfer", content=Image.fromarray(content), init=Image.fromarray(canvas), size=content.shape[1],
            styles=Style(picture(2), scale=SIDE / content.shape[1]), style_layers=["conv1_1"], content_layers="conv2_1",
            iterations=1, scales=1, loss_scale="paper", report_every=1, padding="zeros", tv_weight=1.0,
        )  # fmt: skip
        with one_thread():
            losses.append({term.kind: term.loss for term in job.loss_terms(next(iter(job.synthesis)))})
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def as_picture(image: Image.Image) -> Picture:
    return Picture(image.width, image.height, image.tobytes(), "", alpha=True)


def test_filling_keeps_solid_pixels_and_spreads_their_colors():
    flat = np.zeros((40, 50, 4), np.uint8)
    flat[10:20, 10:20] = (200, 30, 60, 255)
    flat[25:30, 30:45] = (10, 220, 90, 255)
    got = pixels(filled(as_picture(Image.fromarray(flat)))).astype(int)
    solid = flat[..., 3] == 255
    assert np.array_equal(got[solid], flat[solid][:, :3])
    assert np.abs(got[9, 10:17] - (200, 30, 60)).max() <= 15
    assert np.abs(got[30, 32:43] - (10, 220, 90)).max() <= 15
    # Every color is between the two colors.
    assert (got >= (10, 30, 60)).all() and (got <= (200, 220, 90)).all()


def test_a_single_visible_pixel_fills_the_picture():
    dot = np.zeros((9, 31, 4), np.uint8)
    dot[4, 7] = (5, 6, 7, 255)
    assert (pixels(filled(as_picture(Image.fromarray(dot)))) == (5, 6, 7)).all()


def test_the_gradient_of_far_hidden_pixels_is_zero():
    job = prepare("transfer", content=CONTENT, styles=picture(2), size=SIDE, iterations=1, scales=1, padding="zeros")
    assert job._outside is not None
    kept = job._outside.kept(SIDE, SIDE)[0, 0].numpy()
    assert not kept[~HIDDEN].any()
    assert kept[DISTANCE > 40].all()
    objective = job.synthesis._levels[0].open()
    with one_thread():
        gradient = objective.evaluate(torch.rand(1, 3, SIDE, SIDE)).gradient[0].abs().sum(0).numpy()
    assert (gradient[kept] == 0).all()
    assert (gradient[SOLID] > 0).mean() > 0.9
