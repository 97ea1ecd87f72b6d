"""Pictures, a full-size network and jobs of the GPU check. It needs no file: the weights are random."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gramophone_server.engine.objective import Objective
from gramophone_server.messages.options import JobKind, SynthesisOptions
from gramophone_server.messages.spec import JobSpec, LayerWeight, LevelSpec, Picture, StyleLayer, StylePicture
from gramophone_server.models.graph import Parameters, build_graph
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS
from gramophone_server.models.manifest import Layer, Manifest, Preprocessing
from gramophone_server.models.model import Model
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore, write_model
from gramophone_server.models.vgg import VGG19_LAYERS, position
from gramophone_server.worker.prepared import PreparedJob
from gramophone_server.worker.targets import Targets

FULL_MODEL = "vgg19-full"
"""A VGG-19 of random weights, as large as the real one."""
MODELS = (BUILTIN_MODEL, FULL_MODEL)
_CHANNELS = (64, 128, 256, 512, 512)
_IMAGENET = Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def device() -> torch.device:
    """Returns the device that is checked."""
    return torch.device(os.environ.get("GPU_CHECK_DEVICE", "cuda:0"))


def model(name: str) -> Model:
    """Returns a model of the check."""
    root = Path(tempfile.gettempdir()) / f"gramophone-gpu-check-{os.getuid()}"
    if not (root / FULL_MODEL / "manifest.json").exists():
        _write_full_model(root)
    return ModelStore(root).get(name)


def _write_full_model(root: Path) -> None:
    rng, weights, layers, inputs = np.random.default_rng(0), {}, [], 3
    for name in VGG19_LAYERS:
        block = position(name)[0]
        outputs = _CHANNELS[block - 1]
        kernel = rng.standard_normal((outputs, inputs, 3, 3), np.float32) * np.float32((2 / (9 * inputs)) ** 0.5)
        weights[name] = kernel, np.zeros(outputs, np.float32)
        layers.append(Layer(name, outputs, 1 << (block - 1)))
        inputs = outputs
    manifest = Manifest(FULL_MODEL, tuple(layers), _IMAGENET, "", "Random weights.", "made by the GPU check", "MIT")
    write_model(root, manifest, build_graph(Parameters.of_vgg(weights)).SerializeToString())


def picture(side: int, seed: int = 0) -> Picture:
    """Returns a picture (side, side, 3) with structure at several scales."""
    rng, total = np.random.default_rng(seed), np.zeros((side, side, 3))
    for cells in (2, 4, 8, 16, 32):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 5
    rgb = total.astype(np.uint8).tobytes()
    return Picture(side, side, rgb, hashlib.sha256(rgb).hexdigest())


def spec(name: str, side: int, kind: JobKind = "style", iterations: int = 30, **options: Any) -> JobSpec:
    """Returns a job of one level with the given options."""
    adam = options.get("optimizer") == "adam"
    usual: dict[str, Any] = {
        "model": name, "size": side, "fit": "square", "iterations": iterations, "optimizer": "lbfgs",
        "learning_rate": 10.0 if adam else 1.0, "init": "noise", "seed": 3, "report_every": 10, "padding": "zeros",
        "loss_scale": "relative", "lbfgs_history": 20, "warm_start": False, "tv_weight": 0.0, "pooling": "max",
    }  # fmt: skip
    job = JobSpec(
        kind=kind, width=side, height=side, content=None, styles=(StylePicture(picture(min(side, 256), 1), 1.0),),
        content_layers=(), content_weight=0.0, style_weight=10.0,
        style_layers=tuple(StyleLayer(layer, 0.2, options.get("style_loss", "gram")) for layer in STYLE_LAYERS),
        init_image=None, levels=(LevelSpec(side, side, iterations),),
        options=SynthesisOptions(**(usual | options)),
    )  # fmt: skip
    if kind == "style":
        return job
    layers = tuple(LayerWeight(layer, 1.0) for layer in CONTENT_LAYERS)
    job = replace(job, content=picture(side, 7), content_layers=layers, content_weight=1.0)
    return job if kind == "transfer" else replace(job, styles=(), style_layers=())


def prepared(job: JobSpec, on: torch.device, **how: Any) -> PreparedJob:
    """Returns a job that is ready to run on a device."""
    tile = how.pop("tile", job.options.tile_size or None)
    return PreparedJob(job, model(job.options.model), _extractor(), on, tile=tile, **how)


@cache
def _extractor() -> Targets:
    """Returns the extractor of all jobs, which keeps their targets."""
    return Targets("cpu", torch.get_num_threads())


def objective(job: JobSpec, on: torch.device) -> Objective:
    """Returns the objective of a job's first level on a device."""
    return prepared(job, on)._open(job.levels[0])


@contextmanager
def updates(run: PreparedJob) -> Iterator[Callable[[], None]]:
    """Opens the first level of a job; the `with` block receives the function that makes one update."""
    with run.synthesis.updates(run.synthesis._levels[0]) as update:
        yield update


def relative(found: Tensor, expected: Tensor) -> float:
    """Returns ‖found − expected‖ / ‖expected‖."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))
