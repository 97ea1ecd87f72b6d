"""Jobs with each style loss: the loss falls, and a job in tiles paints the picture of the whole job."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from gramophone import Style
from gramophone.options import StyleLoss
from gramophone_server.engine.losses import style_losses
from gramophone_server.messages.spec import StyleLayer
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.loading import load_architecture
from gramophone_server.models.store import ModelStore
from gramophone_server.reading.style_losses import CANVAS_LOSSES, WHOLE_CANVAS_LOSSES
from gramophone_server.worker.plan import plan
from tests.harness import png
from tests.messages.specs import make_spec

from .painting import finished, paint, prepare

# Losses of the canvas itself cannot be alone.
NAMES = sorted(name for name, loss in style_losses().items() if not loss.on_canvas)
COMBINATIONS: list[Any] = [
    {"gram": 1.0, "spectrum": 1.0},
    {"mean_covariance": 1.0, "nearest_neighbor": 0.5, "spectrum": 0.1},
    {"nearest_neighbor": 1.0, "sliced_wasserstein": 2.0},
]
TILED: list[Any] = [*(name for name in NAMES if style_losses()[name].tiling), *COMBINATIONS[:2]]


def test_the_contract_has_every_loss():
    assert set(style_losses()) == set(get_args(StyleLoss))


def test_the_front_knows_which_losses_need_the_whole_canvas_and_which_compare_it():
    assert {name for name, loss in style_losses().items() if loss.tiling is None} == WHOLE_CANVAS_LOSSES
    assert {name for name, loss in style_losses().items() if loss.on_canvas} == CANVAS_LOSSES


def test_every_loss_of_a_combination_has_its_own_layers_unless_layers_are_given():
    losses: Any = {"gram": 1.0, "nearest_neighbor": 2.0, "spectrum": 0.5}
    found = prepare("style", style_loss=losses)._spec.style_layers
    assert [(w.layer, w.weight) for w in found if w.loss == "nearest_neighbor"] == [("conv3_1", 1), ("conv4_1", 1)]
    assert [(w.layer, w.weight) for w in found if w.loss == "spectrum"] == [("", 0.5)]
    assert [w.layer for w in found if w.loss == "gram"] == list(STYLE_LAYERS)
    given = prepare("style", style_loss=losses, layers={"conv2_1": 3.0})._spec.style_layers
    assert [(w.layer, w.weight) for w in given] == [("conv2_1", 3), ("conv2_1", 6), ("", 0.5)]


def test_a_combination_has_relative_losses_and_reports_the_loss_of_each_term():
    job = prepare("style", style_loss={"gram": 1.0, "spectrum": 0.5}, model="vgg19-random")
    assert job._spec.options.loss_scale == "relative"
    terms = finished(job).terms
    assert [term.style_loss for term in terms] == ["gram"] * 5 + ["spectrum"]
    assert terms[-1].layer == ""


def test_the_total_of_a_combination_is_the_weighted_sum_of_its_terms():
    result = paint("style", style_loss={"gram": 1.0, "nearest_neighbor": 0.25, "spectrum": 2.0}, size=48)
    assert result.loss == pytest.approx(sum(term.loss * term.weight for term in result.terms), rel=1e-5)


def test_the_default_weight_of_the_style_is_that_of_relative_losses():
    spec = prepare("transfer", style_loss="mean_covariance", model="vgg19-random")._spec
    assert spec.style_weight == 10
    assert prepare("transfer", model="vgg19-random")._spec.style_weight == 1000


@pytest.mark.parametrize("name", NAMES)
def test_only_gram_matrices_have_the_scale_of_the_paper_by_default(name):
    job = prepare("transfer", style_loss=name, model="vgg19-random")
    assert job._spec.options.loss_scale == ("paper" if name == "gram" else "relative")
    assert prepare("transfer", style_loss=name, loss_scale="paper")._spec.options.loss_scale == "paper"


def test_neighbors_are_compared_at_two_deep_layers_unless_layers_are_given():
    found = prepare("style", style_loss="nearest_neighbor")._spec
    assert [(w.layer, w.weight) for w in found.style_layers] == [("conv3_1", 0.5), ("conv4_1", 0.5)]
    given = prepare("style", style_loss="nearest_neighbor", layers=["conv2_1"])._spec
    assert [w.layer for w in given.style_layers] == ["conv2_1"]


def test_several_styles_of_several_sizes_are_mixed():
    styles = [Style(png(40, 64, seed=2), weight=2), Style(png(64, 48, seed=3), scale=0.5)]
    for name in NAMES:
        assert paint("transfer", styles=styles, style_loss=name, size=64, iterations=2, scales=1).loss > 0


def test_a_loss_without_tiles_is_planned_whole_however_little_memory_there_is():
    spec = make_spec(1024)
    layers = spec.style_layers
    spec = replace(spec, style_layers=(*layers, StyleLayer("conv1_1", 1.0, "sliced_wasserstein")))
    architecture = load_architecture(ModelStore().get("vgg19-slim"))
    assert plan(spec, architecture, torch.device("cpu"), 1).tile is None
    assert plan(replace(spec, style_layers=layers), architecture, torch.device("cpu"), 1).tile


@pytest.mark.parametrize("kind", ["style", pytest.param("transfer", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*NAMES, *COMBINATIONS], ids=str)
def test_the_loss_falls(name, kind):
    job = prepare(kind, style_loss=name, size=48, iterations=12, report_every=1, scales=1)
    first, *_, last = [job.loss(frame) for frame in job.synthesis]
    assert last < 0.7 * first
    assert finished(job).loss > 0


@pytest.mark.parametrize("name", TILED, ids=str)
def test_tiles_paint_the_picture_of_the_whole_job(name):
    # With precision="auto", CPUs with matrix units compute in bfloat16, whose rounding is far coarser.
    sizes: dict[str, Any] = {"size": 96, "iterations": 4, "scales": 1, "precision": "float32"}
    whole, tiled = (paint("transfer", style_loss=name, tile_size=tile_size, **sizes) for tile_size in (0, 64))
    # Tiles add in another order, and rounding may change which neighbor is nearest.
    apart = np.abs(whole.picture.astype(int) - tiled.picture)
    assert apart.max() <= 2
    assert apart.mean() < 0.05
