"""The network that is kept between jobs."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from gramophone_server.engine.kernels.padding import REPLICATE, ZEROS
from gramophone_server.engine.network import Network
from gramophone_server.models.model import Model
from gramophone_server.models.networks import _new_network, kept_network, open_network
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore

USUAL: dict[str, Any] = {"pooling": "max", "paddings": ZEROS, "dtype": torch.float32, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return ModelStore(tmp_path_factory.mktemp("models")).get(BUILTIN_MODEL)


def kept(model: Model, layers: tuple[str, ...] = ("conv1_1", "conv3_1"), **options: Any) -> Network:
    return kept_network(model, layers, **USUAL | options)


def test_the_next_job_of_the_same_kind_uses_the_same_network(model):
    first = kept(model)
    assert kept(model) is first
    canvas = torch.rand(1, 3, 32, 32)
    for name, features in _new_network(model, ("conv1_1", "conv3_1"), **USUAL)(canvas).items():
        assert torch.equal(first(canvas)[name], features)


@pytest.mark.parametrize(
    "other",
    [{"pooling": "average"}, {"paddings": REPLICATE}, {"dtype": torch.bfloat16}, {"layers": ("conv3_1",)}],
    ids=lambda other: next(iter(other)),
)
def test_other_options_open_another_network_and_free_the_one_before(model, other):
    first = weakref.ref(kept(model))
    second = kept(model, **other)
    gc.collect()
    assert first() is None
    assert kept(model, **other) is second


def test_another_preprocessing_of_the_same_file_opens_another_network(model):
    preprocessing = replace(model.manifest.preprocessing, mean=(0.0, 0.0, 0.0))
    other = replace(model, manifest=replace(model.manifest, preprocessing=preprocessing))
    assert kept(other) is not kept(model)


def test_jobs_that_run_at_the_same_time_use_one_network(model):
    layers = ("conv1_1", "conv2_1")
    first = open_network(model, layers)
    assert open_network(model, layers) is first
    assert open_network(model, layers, pooling="average") is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
