"""vgg19-slim, the built-in default model."""

from functools import partial
from typing import Any

import pytest

from gramophone.options import JobKind
from gramophone.requests import estimate_request
from gramophone_server.models.graph import load_parameters
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS
from gramophone_server.models.model import Model
from gramophone_server.models.store import BUILTIN_MODEL, BUILTIN_ROOT, ModelStore
from gramophone_server.settings import Settings
from tests.harness import png
from tests.requests import read_job


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return ModelStore(tmp_path_factory.mktemp("models")).get("vgg19-slim")


def test_slim_is_the_default_model(model):
    assert BUILTIN_MODEL == Settings().models.default_model == model.manifest.name


def test_slim_is_small_undamaged_and_under_our_license(model):
    assert sum(file.stat().st_size for file in (BUILTIN_ROOT / "vgg19-slim").iterdir()) <= 4e6
    model.verify()
    assert model.manifest.license == "MIT"
    assert "seed" in model.manifest.source


def test_slim_has_the_papers_layers_with_heads(model):
    names = [layer.name for layer in model.manifest.layers]
    assert {*STYLE_LAYERS, *CONTENT_LAYERS} <= set(names)
    assert all(layer.head for layer in model.manifest.layers)
    parameters = load_parameters(model.path)
    assert list(parameters.weights) == list(parameters.heads) == names
    assert (model.manifest.pooling, model.manifest.loss_scale) == ("max", "relative")


@pytest.mark.parametrize(
    ("name", "scale", "weight"), [("vgg19-slim", "relative", 10.0), ("vgg19-random", "paper", 1e3)]
)
def test_a_models_own_loss_scale_is_the_default(tmp_path, name, scale, weight):
    read = partial(read_job, model="vgg19-slim", models=tmp_path)
    style = read(estimate_request("style", [png()], model=name))
    transfer = read(estimate_request("transfer", [png(), png()], model=name))
    assert style.options.loss_scale == transfer.options.loss_scale == scale
    assert transfer.style_weight == weight
    asked = read(estimate_request("transfer", [png(), png()], model=name, loss_scale="paper"))
    assert (asked.options.loss_scale, asked.style_weight) == ("paper", 1e3)


@pytest.mark.parametrize(("name", "history"), [("vgg19-slim", 8), ("vgg19-random", 20)])
def test_a_models_own_history_is_the_default(tmp_path, name, history):
    read = partial(read_job, model="vgg19-slim", models=tmp_path)
    assert read(estimate_request("style", [png()], model=name)).options.lbfgs_history == history
    assert read(estimate_request("style", [png()], model=name, lbfgs_history=3)).options.lbfgs_history == 3


def test_slim_adds_a_little_total_variation_to_content_with_relative_losses(tmp_path):
    """Not for styles without content, the paper's loss scale or other models; an explicit weight is kept."""
    read = partial(read_job, model="vgg19-slim", models=tmp_path)

    def weight(kind: JobKind, **options: Any) -> float:
        return read(estimate_request(kind, [png()] * (2 if kind == "transfer" else 1), **options)).options.tv_weight

    assert weight("content") == weight("transfer") == 1e-5
    assert weight("style") == weight("content", loss_scale="paper") == weight("content", model="vgg19-random") == 0
    assert weight("content", tv_weight=0.0) == 0
    assert weight("transfer", tv_weight=2.0) == 2
