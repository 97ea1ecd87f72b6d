"""A loss in one file of its own runs as a whole job: targets, levels, reports, tiles and plan follow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gramophone_server.engine import losses
from gramophone_server.models.loading import load_architecture
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.loss_cost import iteration_operations
from gramophone_server.worker.plan import plan
from gramophone_server.worker.prepared import PreparedJob
from gramophone_server.worker.targets import Targets
from tests.engine.losses.test_own_loss import OWN

from .painting import finished, prepare

MODEL = ModelStore().get(BUILTIN_MODEL)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])


def job(tile: int | None = None, size: int = 96) -> PreparedJob:
    # Small differences, as between tiles and the whole, grow less with float32 than with bfloat16.
    options: dict[str, Any] = {"scales": 2, "report_every": 1, "loss_scale": "relative", "precision": "float32"}
    spec = prepare("style", size=size, iterations=6, **options)._asked
    name: Any = "own_mean"  # not a word of the contract
    layers = tuple(replace(layer, loss=name) for layer in spec.style_layers)
    return PreparedJob(replace(spec, style_layers=layers), MODEL, Targets("cpu", 1), torch.device("cpu"), tile=tile)


def test_the_job_of_an_own_loss_paints_the_same_whole_and_in_tiles() -> None:
    whole, tiled = finished(job()), finished(job(tile=64))
    assert np.abs(whole.picture.astype(int) - tiled.picture).max() <= 1
    assert {term.style_loss for term in whole.terms} == {"own_mean"}
    assert whole.loss == pytest.approx(sum(term.loss * term.weight for term in whole.terms), rel=1e-5)


def test_its_loss_falls() -> None:
    made = job(size=48)
    first, *_, last = [made.loss(frame) for frame in made.synthesis]
    assert last < 0.5 * first


def test_it_is_planned_in_tiles_and_its_operations_are_counted() -> None:
    spec = job(size=512)._asked
    assert plan(spec, load_architecture(MODEL), torch.device("cpu"), 1).tile
    assert iteration_operations(spec, MODEL.manifest, spec.levels[-1]) == {"own_mean": 0}
