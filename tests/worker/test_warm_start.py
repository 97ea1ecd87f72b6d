"""Jobs whose first levels run through the small built-in model."""

import gc
import weakref
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gramophone_server.engine.objective import Objective
from gramophone_server.models import networks
from gramophone_server.models.graph import Parameters
from gramophone_server.models.loading import load_architecture, load_network
from gramophone_server.models.model import Model
from gramophone_server.models.networks import open_network
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.plan import plan
from gramophone_server.worker.prepared import PreparedJob
from tests.marks import slow
from tests.worker.painting import finished, one_thread, prepare

OTHER = "vgg19-random"
CPU = torch.device("cpu")


def warm(kind: Any = "style", **options: Any) -> PreparedJob:
    return prepare(kind, **{"model": OTHER, "size": 64, "scales": 2, "iterations": 32, "warm_start": True, **options})


def sizes(job: PreparedJob, model: str, level: int) -> dict[str, float]:
    """Returns the value of the weighted terms of each kind for a blank canvas, computed in float64."""
    found: defaultdict[str, float] = defaultdict(float)
    for term in job._builders[model].at(job._spec.levels[level]):
        target = None if term.target is None else term.target[0].double().square().sum().item()
        # Gatys, Ecker & Bethge 2016, equations 4 and 1, for features that are 0.
        match term.loss.kind, target:
            case "style", float():
                found["style"] += term.weight.item() * target / (4 * term.target.shape[-1] ** 2)
            case "content", float():
                found["content"] += term.weight.item() * target / 2
    return found


@pytest.mark.parametrize("scale", ["paper", "relative"])
@pytest.mark.parametrize("kind", ["style", "transfer"])
def test_both_models_weigh_each_kind_of_loss_alike(kind, scale):
    job = warm(kind, loss_scale=scale)
    for level in range(2):
        own, small = sizes(job, "", level), sizes(job, BUILTIN_MODEL, level)
        assert own.keys() == small.keys()
        assert small == pytest.approx(own, rel=1e-5)


def test_the_layers_of_the_small_model_share_the_loss_by_their_weights():
    layers = {"conv1_1": 1.0, "conv2_1": 3.0, "conv4_1": 0.0}
    terms = warm(layers=layers, loss_scale="paper")._builders[BUILTIN_MODEL].at(warm()._spec.levels[0])
    blank = [t.weight.item() * t.target.double().square().sum().item() / (4 * t.target.shape[-1] ** 2) for t in terms]
    assert blank[1] == pytest.approx(3 * blank[0], rel=1e-5)
    assert blank[2] == 0


def test_each_level_minimizes_the_loss_of_its_model():
    job = warm(report_every=1, precision="float32")
    spec = job._spec
    with one_thread():
        for frame in job.synthesis:
            level = spec.levels[frame.level]
            name = level.model or OTHER
            network = open_network(ModelStore().get(name), spec.layers, pooling=spec.options.pooling)
            objective = Objective(network, job._builders[level.model].at(level))
            losses = objective.losses(frame.best.canvas).detach()
            assert frame.best.loss.item() == pytest.approx(objective.total(losses).item(), rel=1e-4)


def test_the_last_level_begins_with_the_picture_of_the_small_model():
    job = warm(report_every=1)
    last, best = None, None
    with one_thread():
        for frame in job.synthesis:
            if frame.level == 2:
                first = frame
                break
            last, best = frame, frame.best.canvas
    assert last is not None and best is not None
    assert (last.iteration, first.iteration) == (18, 19)
    assert torch.equal(first.best.canvas, best)


@pytest.mark.parametrize("stop", [slow(1), 4, *map(slow, (5, 17)), 18, slow(19), 24])
def test_a_job_resumes_at_any_level_with_the_same_bytes(stop):
    whole = finished(warm(report_every=1))
    first, second = warm(report_every=1), warm(report_every=1)
    with one_thread():
        for frame in first.synthesis:
            if frame.iteration == stop:
                break
        second.resume(first.synthesis.state())
    assert np.array_equal(finished(second).picture, whole.picture)


@pytest.mark.parametrize(
    "options",
    [
        {"style_loss": {"gram": 1.0, "spectrum": 0.5}}, {"kind": "transfer", "padding": "margin", "tv_weight": 1e-3},
        {"optimizer": "adam"}, *map(slow, ({"wrap": "both"}, {"tile_size": 64, "size": 128}, {"kind": "content"},
        {"kind": "transfer", "color": "luminance"}, {"averaging": 0.5}, {"plateau": 0.5})),
    ],
    ids=str,
)  # fmt: skip
def test_a_warm_start_works_with_other_options(options):
    made = finished(warm(**options))
    assert made.changed
    assert np.isfinite(made.loss)


def test_the_plan_counts_the_operations_of_each_model_and_the_memory_of_all():
    spec = warm()._asked
    other, small = (load_architecture(ModelStore().get(name)) for name in (OTHER, BUILTIN_MODEL))
    both = plan(spec, other, CPU, 1 << 60, {BUILTIN_MODEL: small})
    first = replace(spec, levels=tuple(replace(level, model="") for level in spec.levels if level.model))
    rest = replace(spec, levels=tuple(level for level in spec.levels if not level.model))
    alone = plan(rest, other, CPU, 1 << 60)
    assert both.flops == {
        BUILTIN_MODEL: plan(first, small, CPU, 1 << 60).flops[""], "": alone.flops[""],
    }  # fmt: skip
    assert both.bytes > alone.bytes


def test_the_next_job_finds_the_own_network_open(monkeypatch):
    opened: list[str] = []

    def counted(model: Model) -> Parameters:
        opened.append(model.manifest.name)
        return load_network(model)

    monkeypatch.setattr(networks, "load_network", counted)
    monkeypatch.setattr(networks, "_kept", {})
    # Other tests may still hold networks.
    monkeypatch.setattr(networks, "_opened", weakref.WeakValueDictionary())
    for _ in range(2):
        finished(warm(iterations=8, precision="float32"))
        gc.collect()  # The parts of a job refer to each other, and to its networks.
    assert opened.count(OTHER) == 1
