"""What the benchmarks paint with: the real weights where they are, else the built-in model; a picture drawn here."""

import os
from pathlib import Path

import numpy as np
import torch

from gramophone_server.engine.objective import Objective, Term
from gramophone_server.engine.vgg import TruncatedVGG
from gramophone_server.models.features import FeatureExtractor, gram
from gramophone_server.models.graph import load_weights
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL, Model, ModelStore


def picture(size: int) -> np.ndarray:
    """A uint8 RGB picture (size, size, 3) with detail at every scale."""
    from examples.pictures import seascape

    return np.asarray(seascape(size, size, seed=0).convert("RGB"))


def models() -> list[Model]:
    """The built-in model, and vgg19-caffe if it has been imported."""
    store = ModelStore(Path(os.environ["GRAMOPHONE_MODELS"]) if "GRAMOPHONE_MODELS" in os.environ else None)
    return [store.get(m.manifest.name) for m in store.list() if m.manifest.name in (BUILTIN_MODEL, "vgg19-caffe")]


def style_objective(model: Model, image: np.ndarray, layers: int, dtype: torch.dtype) -> Objective:
    """Style reconstruction of a picture at the first `layers` of the paper's layers."""
    names = STYLE_LAYERS[:layers]
    features = FeatureExtractor(model, device="cpu", threads=torch.get_num_threads()).extract(image, names)
    order, scale, shift = model.manifest.preprocessing.affine
    network = TruncatedVGG(load_weights(model.path), names, order=order, scale=scale, shift=shift, dtype=dtype)
    weight = torch.full((1,), 1 / layers)
    return Objective(network, [Term("style", n, torch.from_numpy(gram(features[n]))[None], weight) for n in names])
