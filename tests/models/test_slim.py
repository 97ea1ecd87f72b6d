"""The built-in model that is used unless another is asked for."""

import pytest

from gramophone_server.models.graph import load_parameters
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL, BUILTIN_ROOT, Model, ModelStore, verify
from gramophone_server.service.server import ServerConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return ModelStore(tmp_path_factory.mktemp("models")).get("vgg19-slim")


def test_it_is_the_default(model):
    assert BUILTIN_MODEL == ServerConfig().default_model == model.manifest.name


def test_it_is_small_whole_and_ours(model):
    assert sum(file.stat().st_size for file in (BUILTIN_ROOT / "vgg19-slim").iterdir()) <= 4e6
    verify(model)
    assert model.manifest.licence == "MIT"
    assert "seed" in model.manifest.source


def test_it_has_the_papers_layers_in_the_teachers_units(model):
    names = [layer.name for layer in model.manifest.layers]
    assert {*STYLE_LAYERS, *CONTENT_LAYERS} <= set(names)
    assert all(layer.head for layer in model.manifest.layers)
    parameters = load_parameters(model.path)
    assert list(parameters.weights) == list(parameters.heads) == names
    assert model.manifest.pooling == "max"
