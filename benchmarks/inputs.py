"""What the benchmarks paint with: the real weights where they are, else the built-in model; a picture drawn here."""

import numpy as np
import torch

from examples.gallery.seascape import seascape
from gramophone_server.engine.objective import Objective, Term
from gramophone_server.engine.vgg import TruncatedVGG
from gramophone_server.models.features import FeatureExtractor, gram
from gramophone_server.models.graph import load_weights
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL, Model, ModelStore


def picture(size: int) -> np.ndarray:
    """A uint8 RGB picture (size, size, 3) with detail at every scale."""
    return np.asarray(seascape(640).resize((size, size)))


def models() -> list[Model]:
    """The built-in model, and vgg19-caffe if it has been imported."""
    return [model for model in ModelStore().list() if model.manifest.name in (BUILTIN_MODEL, "vgg19-caffe")]


def style_objective(model: Model, image: np.ndarray, layers: int, dtype: torch.dtype) -> Objective:
    """Style reconstruction of a picture at the first `layers` of the paper's layers."""
    names = STYLE_LAYERS[:layers]
    features = FeatureExtractor(model, device="cpu", threads=torch.get_num_threads()).extract(image, names)
    order, scale, shift = model.manifest.preprocessing.affine
    network = TruncatedVGG(load_weights(model.path), names, order=order, scale=scale, shift=shift, dtype=dtype)
    weight = torch.full((1,), 1 / layers)
    return Objective(network, [Term("style", n, torch.from_numpy(gram(features[n]))[None], weight) for n in names])
