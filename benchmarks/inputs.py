"""Models, pictures and jobs of the benchmarks: the real weights if available, else the built-in model."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from examples.gallery.seascape import seascape
from gramophone.requests import estimate_request
from gramophone_server.engine.device import available_threads, has_native_bfloat16
from gramophone_server.engine.losses import GRAM
from gramophone_server.engine.losses.gram import averaged_gram
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.models.features import FeatureExtractor
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.model import Model
from gramophone_server.models.networks import open_network
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.prepared import PreparedJob
from gramophone_server.worker.targets import Targets
from tests.requests import read_job

REAL_MODEL = "vgg19-caffe"


class UnavailableError(Exception):
    """Something that a benchmark needs is not available; the message says what."""


def picture(size: int) -> np.ndarray:
    """Returns a uint8 RGB picture (size, size, 3) with detail at every scale."""
    return np.asarray(seascape(640).resize((size, size)))


def models() -> list[Model]:
    """Returns the built-in model, and vgg19-caffe if it has been imported."""
    return [model for model in ModelStore().list() if model.manifest.name in (BUILTIN_MODEL, REAL_MODEL)]


def best_model() -> Model:
    """Returns vgg19-caffe if it has been imported, else the built-in model."""
    return max(models(), key=lambda model: model.manifest.name == REAL_MODEL)


def assets() -> Path:
    """Returns the folder of real weights and photographs.

    Raises:
        UnavailableError: there is no such folder, or vgg19-caffe has not been imported.
    """
    folder = os.environ.get("GRAMOPHONE_TEST_ASSETS")
    if not folder:
        raise UnavailableError("GRAMOPHONE_TEST_ASSETS is not set: the real weights and pictures are missing")
    weights = Path(folder, "weights", "vgg19-caffe-conv.pth")
    if best_model().manifest.name != REAL_MODEL:
        raise UnavailableError(f"run `gramophone models import {weights} --name {REAL_MODEL}` first")
    return Path(folder)


def need_bfloat16() -> None:
    """Checks that bfloat16 is faster than float32 on this CPU.

    Raises:
        UnavailableError: the CPU has no native bfloat16.
    """
    if not has_native_bfloat16(torch.device("cpu")):
        raise UnavailableError("this CPU has no matrix units for bfloat16")


def style_objective(model: Model, image: np.ndarray, layers: int, dtype: torch.dtype) -> Objective:
    """Returns the objective of a style reconstruction of a picture at the first `layers` of the paper's layers."""
    names = STYLE_LAYERS[:layers]
    features = FeatureExtractor(model, device="cpu", threads=torch.get_num_threads()).extract(image, names)
    network = open_network(model, names, dtype=dtype)
    weight = torch.full((1,), 1 / layers)
    return Objective(
        network, [WeightedTerm(GRAM, n, torch.from_numpy(averaged_gram(features[n]))[None], weight) for n in names]
    )


def prepare(model: Model, image: np.ndarray, targets: Targets | None = None, **options: Any) -> PreparedJob:
    """Returns a style job with these options, prepared like in a worker; it starts from noise, like common scripts.

    Args:
        targets: the targets that jobs share, as in a worker; None for new ones.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    name = model.manifest.name
    request = estimate_request("style", [buffer.getvalue()], model=name, **({"init": "noise"} | options))
    spec = read_job(request, name)
    return PreparedJob(
        spec, model, targets or Targets("cpu", available_threads()), torch.device("cpu"),
        others={name: ModelStore().get(name) for name in spec.models[1:]}, tile=spec.options.tile_size or None,
    )  # fmt: skip
