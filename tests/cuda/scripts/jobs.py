"""Prepares jobs on the fake device."""

import hashlib
from typing import Any

import numpy as np
import torch

from gramophone_server.engine.device import set_up_cuda
from gramophone_server.messages.spec import JobSpec, LayerWeight, LevelSpec, Mask, Picture, StylePicture
from gramophone_server.models.store import ModelStore
from gramophone_server.worker.prepared import PreparedJob
from gramophone_server.worker.targets import Targets
from tests.fake_cuda import fakecuda
from tests.messages.specs import make_spec

DEVICE = torch.device("cuda:0")
# Losses that are read are 0, so that no comparison meets what lies in the memory.
fakecuda.configure(reads=0)
set_up_cuda(DEVICE)
_targets = Targets("cpu", 2)


def picture(side: int, seed: int = 0) -> Picture:
    """Returns a picture of noise."""
    data = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8).tobytes()
    return Picture(side, side, data, hashlib.sha256(data).hexdigest())


def mask(side: int) -> Mask:
    """Returns a mask of the left half."""
    values = np.zeros((side, side), np.uint8)
    values[:, : side // 2] = 255
    return Mask(side, side, values.tobytes(), hashlib.sha256(values.tobytes()).hexdigest())


def spec(side: int = 96, iterations: int = 10**4, kind: str = "style", masked: bool = False, **options: Any) -> JobSpec:
    """Returns a job of one level that reports only when it is asked."""
    style = StylePicture(picture(side), 1.0, mask=mask(side) if masked else None)
    fields: dict[str, Any] = {"styles": (style,)}
    if kind != "style":
        fields |= {
            "kind": kind, "content": picture(side, 1), "content_layers": (LayerWeight("conv4_2", 1.0),),
            "content_weight": 1.0,
        }  # fmt: skip
    if kind == "content":
        fields |= {"styles": (), "style_layers": ()}
    options = {"report_every": 10**6, "precision": "auto", **options}
    return make_spec(side, levels=(LevelSpec(side, side, iterations),), iterations=iterations, **fields, **options)


def prepared(job: JobSpec, **how: Any) -> PreparedJob:
    """Returns a job that is ready to run on the fake device."""
    return PreparedJob(job, ModelStore().get(job.options.model), _targets, DEVICE, **how)


def warmed(job: PreparedJob, updates: int) -> Any:
    """Makes some updates of a job, and returns a function that makes one more."""
    objective = job._open(job._spec.levels[0])
    for _ in range(updates):
        job.synthesis._update(objective)
    return lambda: job.synthesis._update(objective)
