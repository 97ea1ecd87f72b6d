"""The picture depends only on the ratio of the weights, for weights over the whole range of a float."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramophone import Style
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL
from tests.harness import encode, png
from tests.marks import slow
from tests.worker.painting import finished, one_thread, paint, prepare

DECADES = (1e-300, 1e-20, 0.1, 1e5, 1e20, 1e300)


def _half() -> bytes:
    """A mask that is black on the left and white on the right."""
    return encode(Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 24, 1).repeat(48, 0)))


KINDS: dict[str, Callable[[float], dict[str, Any]]] = {
    "a relative loss": lambda c: {"content_weight": c, "style_weight": 1e2 * c},
    "the paper's loss": lambda c: {"content_weight": c, "style_weight": 1e5 * c, "loss_scale": "paper"},
    "another model": lambda c: {"content_weight": c, "style_weight": 1e5 * c, "model": "vgg19-random"},
    "Adam": lambda c: {"content_weight": c, "style_weight": 1e2 * c, "optimizer": "adam"},
    "Adam and the paper's": lambda c: {
        "content_weight": c, "style_weight": 1e5 * c, "optimizer": "adam", "loss_scale": "paper",
    },
    "float32": lambda c: {"content_weight": c, "style_weight": 1e2 * c, "precision": "float32"},
    "a pyramid": lambda c: {"content_weight": c, "style_weight": 1e2 * c, "scales": 2, "init": "noise"},
    "tiles": lambda c: {"content_weight": c, "style_weight": 1e2 * c, "tile_size": 64, "size": 128, "iterations": 4},
    "smoothing": lambda c: {"content_weight": c, "style_weight": 1e2 * c, "tv_weight": 1e-3 * c},
    "weights of layers": lambda c: {
        "style_layers": {name: c * (1 + n) for n, name in enumerate(STYLE_LAYERS)}, "content_layers": {"conv4_2": c},
    },
    "style alone": lambda c: {"kind": "style", "layers": dict.fromkeys(STYLE_LAYERS, c)},
    "content alone": lambda c: {"kind": "content", "layers": {"conv3_1": c, "conv4_2": c}},
    "no weight of content": lambda c: {"content_weight": 0.0, "style_weight": c},
    "luminance": lambda c: {"content_weight": c, "style_weight": 1e2 * c, "color": "luminance"},
    "several styles": lambda c: {
        "content_weight": c, "style_weight": 1e2 * c,
        "styles": [Style(png(seed=2), weight=3 * c), Style(png(seed=3), weight=c)],
    },
    "masks": lambda c: {
        "content_weight": c, "style_weight": 1e2 * c,
        "styles": [Style(png(seed=2), weight=3 * c, mask=_half()), Style(png(seed=3), weight=c)],
    },
}  # fmt: skip


# The other kinds differ in the job, not in how the losses are weighted.
QUICK = {"a relative loss", "the paper's loss", "weights of layers", "Adam and the paper's"}


@pytest.mark.parametrize("kind", [kind if kind in QUICK else slow(kind) for kind in KINDS])
def test_weights_with_the_same_ratio_give_the_same_picture(kind):
    """The picture equals that for c = 1 to one level: the rest is the rounding of c · ratio."""
    expected = paint(**KINDS[kind](1.0))
    assert expected.changed
    for c in DECADES:
        made = paint(**KINDS[kind](c))
        apart = np.abs(made.picture.astype(int) - expected.picture)
        assert apart.max() <= 1, f"{c:g}: {apart.max()}"
        assert made.loss == pytest.approx(min(c * expected.loss, sys.float_info.max), rel=1e-3)


@pytest.mark.parametrize("loss_scale", ["relative", "paper"])
@pytest.mark.parametrize("weights", [(1.0, 1e3), (0.5, 1e5), (3.0, 7.0), (0.0, 10.0), (1.0, 0.0)])
def test_usual_weights_are_used_unchanged_up_to_a_power_of_two(weights, loss_scale):
    """Their mantissas are unchanged, so that the pixels of usual jobs do not change."""
    job = prepare(content_weight=weights[0], style_weight=weights[1], loss_scale=loss_scale)
    spec = job._spec
    for term in job._terms.at(spec.levels[-1]):
        if term.loss.kind != "total_variation":
            outer = spec.style_weight * (1 / 5) if term.loss.kind == "style" else spec.content_weight
            target = term.target.numpy()[0]
            divisor = 4 * len(target) ** 2 if term.loss.kind == "style" else 2
            scale = divisor / float(np.square(target, dtype=np.float64).sum()) if loss_scale == "relative" else 1.0
            mantissa, _ = np.frexp(term.weight.item())
            assert mantissa == np.frexp(np.float32(outer * scale))[0]
            assert term.reported_weight == pytest.approx(outer * scale, rel=1e-15)


def test_losses_and_weights_are_reported_in_the_units_of_the_request():
    for c in (1.0, 1e-30, 1e30):
        made = paint(content_weight=c, style_weight=1e2 * c, iterations=2)
        assert made.loss == pytest.approx(sum(term.loss * term.weight for term in made.terms), rel=1e-4)


@pytest.mark.parametrize("ratio", [1e30, *map(slow, (1e15, 1e40, 1e60, 1e300))])
@pytest.mark.parametrize("model", [BUILTIN_MODEL, "vgg19-random"])
def test_a_negligible_term_has_no_effect(ratio, model):
    # With bfloat16, the rounding of the gradients alone changes the picture.
    options: dict[str, Any] = {"model": model, "tv_weight": 0.0, "iterations": 4, "precision": "float32"}
    style = paint(content_weight=0.0, style_weight=1.0, **options)
    content = paint(content_weight=1.0, style_weight=0.0, **options)
    assert not content.changed
    for weights in ((1.0, ratio), (1 / ratio, 1.0)):
        made = paint(content_weight=weights[0], style_weight=weights[1], **options)
        assert made.changed
        assert np.abs(made.picture.astype(int) - style.picture).mean() < 2
    for weights in ((ratio, 1.0), (1.0, 1 / ratio)):
        made = paint(content_weight=weights[0], style_weight=weights[1], **options)
        assert np.abs(made.picture.astype(int) - content.picture).max() <= 1


def test_weights_whose_products_are_outside_the_range_of_a_float():
    """The product of a weight and the weight of a layer overflows or underflows a float."""
    least, most = 5e-324, 1.7e308
    expected = paint(content_weight=1.0, style_weight=1.0, precision="float32").picture.astype(int)
    for c, layer in ((most, most), (least, least), (most, least), (least, most)):
        layers: dict[str, Any] = {
            "style_layers": dict.fromkeys(STYLE_LAYERS, layer / 5),
            "content_layers": {"conv4_2": layer},
        }
        if layer == least:
            layers = {"style_layers": dict.fromkeys(STYLE_LAYERS, layer), "content_layers": {"conv4_2": layer}}
        made = paint(content_weight=c, style_weight=c, precision="float32", **layers)
        assert made.changed
        assert np.isfinite(made.loss)
        if layer == most:
            # Not with the smallest float: it cannot be divided by 5, so that the five layers weigh five times as much.
            assert np.abs(made.picture.astype(int) - expected).mean() < 1


def test_a_loss_beyond_the_range_is_reported_as_the_largest_float():
    made = paint(content_weight=1e300, style_weight=1e305, loss_scale="paper", iterations=2)
    assert made.changed
    assert made.loss == pytest.approx(1.797e308, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("weights", [(1e5, 1e10), (1e-15, 1e-12)])
def test_a_job_with_odd_weights_resumes_from_its_checkpoint(optimizer, weights):
    options: dict[str, Any] = {
        "content_weight": weights[0], "style_weight": weights[1], "optimizer": optimizer, "report_every": 3,
        "scales": 2, "iterations": 12, "init": "noise",
    }  # fmt: skip
    expected = paint(**options)
    first = prepare(**options)
    with one_thread():
        frame = next(frame for frame in first.synthesis if frame.iteration >= 6)
        state = first.synthesis.state()
    assert frame.level == 1
    second = prepare(**options)
    second.resume(state)
    made = finished(second)
    assert np.array_equal(made.picture, expected.picture)
    assert made.loss == expected.loss
