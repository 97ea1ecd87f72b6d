"""The speed of a device is measured once and stored in the user's cache folder."""

import json
from pathlib import Path

import pytest
import torch

from gramophone_server.engine.losses import style_losses
from gramophone_server.models.model import Model
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.speed import Speeds
from tests.marks import slow


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return ModelStore(tmp_path_factory.mktemp("models")).get(BUILTIN_MODEL)


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gramophone" / "speeds.json"


def speed(model: Model, precision: str = "float32") -> float:
    """Returns the speed in FLOP/s as a new worker gets it."""
    return Speeds(torch.device("cpu")).flops_per_second(model, precision)


def test_the_speed_is_measured_and_cached(model, file):
    got = speed(model)
    # From one slow core to many fast cores.
    assert 1e8 < got < 1e15
    assert list(json.loads(file.read_text()).values()) == [got]
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_a_cached_speed_is_not_measured_again(model, file):
    speed(model)
    # A speed that no measurement gives.
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 12.5)))
    assert speed(model) == 12.5


@pytest.mark.parametrize("name", sorted(name for name, loss in style_losses().items() if loss.operations(8, 16, 16)))
def test_the_speed_of_each_style_loss_is_measured_and_cached(name, file):
    speeds = Speeds(torch.device("cpu"))
    got = speeds.loss_operations_per_second(name)
    assert 1e8 < got < 1e15
    assert list(json.loads(file.read_text()).values()) == [got]
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 12.5)))
    assert speeds.loss_operations_per_second(name) == 12.5


@pytest.mark.slow
def test_other_precisions_and_numbers_of_threads_are_measured_separately(model, file):
    speed(model)
    (first,) = json.loads(file.read_text())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        speed(model)
    finally:
        torch.set_num_threads(threads)
    speed(model, "bfloat16")
    kept = json.loads(file.read_text())
    assert len(kept) == 3
    assert first in kept


BROKEN = [b"{", *map(slow, (b"\xff\xfe", b"[]", b'{"KEY": null}', b'{"KEY": 0.0}'))]


@pytest.mark.parametrize("content", BROKEN)
def test_a_corrupt_cache_file_is_replaced(model, file, content):
    key = Speeds(torch.device("cpu"))._key(model, "float32")
    file.parent.mkdir()
    file.write_bytes(content.replace(b"KEY", key.encode()))
    got = speed(model)
    assert got > 0
    assert json.loads(file.read_text()) == {key: got}


def test_a_cache_folder_that_cannot_be_written_is_no_error(model, tmp_path, monkeypatch):
    # A file in place of the folder: even root cannot write there.
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert speed(model) > 0
    assert (tmp_path / "cache").read_text() == "mine"


def test_without_the_variable_the_cache_is_in_the_home_folder(model, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    speed(model)
    assert (tmp_path / ".cache" / "gramophone" / "speeds.json").is_file()
