"""Prepares jobs on the fake device."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from gramophone_server.engine.device import set_up_cuda
from gramophone_server.engine.losses import style_loss
from gramophone_server.messages.options import StyleLoss
from gramophone_server.messages.spec import JobSpec, LayerWeight, LevelSpec, Mask, Picture, StyleLayer, StylePicture
from gramophone_server.models.layers import STYLE_LAYERS
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
# A level whose context is dropped would end.
_open: list[AbstractContextManager[object]] = []


def picture(side: int, seed: int = 0, *, alpha: bool = False) -> Picture:
    """Returns a picture of noise; with alpha, its left half is transparent."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 4 if alpha else 3), np.uint8)
    if alpha:
        pixels[:, : side // 2, 3], pixels[:, side // 2 :, 3] = 0, 255
    data = pixels.tobytes()
    return Picture(side, side, data, hashlib.sha256(data).hexdigest(), alpha=alpha)


def mask(side: int) -> Mask:
    """Returns a mask of the left half."""
    values = np.zeros((side, side), np.uint8)
    values[:, : side // 2] = 255
    return Mask(side, side, values.tobytes(), hashlib.sha256(values.tobytes()).hexdigest())


def spec(
    side: int = 96,
    iterations: int = 10**4,
    kind: str = "style",
    *,
    masked: bool = False,
    transparent: bool = False,
    losses: tuple[StyleLoss, ...] = (),
    **options: Any,
) -> JobSpec:
    """Returns a job of one level that reports only when it is asked.

    Args:
        masked: whether the style belongs to the left half of the canvas.
        transparent: whether the left half of the content is transparent.
        losses: names of style losses beside each other, in place of the usual one.
    """
    style = StylePicture(picture(side), 1.0, mask=mask(side) if masked else None)
    fields: dict[str, Any] = {"styles": (style,)}
    if kind != "style":
        fields |= {
            "kind": kind, "content": picture(side, 1, alpha=transparent), "content_weight": 1.0,
            "content_layers": (LayerWeight("conv4_2", 1.0),),
        }  # fmt: skip
    if kind == "content":
        fields |= {"styles": (), "style_layers": ()}
    if losses:
        layers = [StyleLayer(layer, 1.0, loss) for loss in losses for layer in STYLE_LAYERS if not on_canvas(loss)]
        layers += [StyleLayer("", 1.0, loss) for loss in losses if on_canvas(loss)]
        fields["style_layers"] = tuple(layers)
    options = {"report_every": 10**6, "precision": "auto", **options}
    return make_spec(side, levels=(LevelSpec(side, side, iterations),), iterations=iterations, **fields, **options)


def on_canvas(loss: str) -> bool:
    """Returns whether a style loss compares the canvas itself rather than features."""
    return style_loss(loss).on_canvas


def prepared(job: JobSpec, **how: Any) -> PreparedJob:
    """Returns a job that is ready to run on the fake device."""
    return PreparedJob(job, ModelStore().get(job.options.model), _targets, DEVICE, **how)


def warmed(job: PreparedJob, updates: int) -> Callable[[], None]:
    """Makes some updates of a job, and returns the function that makes one more."""
    opened = job.synthesis.updates(job.synthesis._levels[0])
    _open.append(opened)
    update = opened.__enter__()
    for _ in range(updates):
        update()
    return update
