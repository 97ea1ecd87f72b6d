"""The speed of this device is measured once, and kept where the user's caches are."""

import json
from pathlib import Path

import pytest
import torch

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
    """As a worker that has just started finds it."""
    return Speeds(torch.device("cpu")).flops_per_second(model, precision)


def test_it_is_measured_and_kept(model, file):
    got = speed(model)
    # From a slow core to many fast ones.
    assert 1e8 < got < 1e15
    assert list(json.loads(file.read_text()).values()) == [got]
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_what_is_kept_is_not_measured_again(model, file):
    speed(model)
    # No measurement would find this.
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 12.5)))
    assert speed(model) == 12.5


@pytest.mark.slow
def test_another_precision_and_another_number_of_threads_are_measured_beside(model, file):
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
def test_a_corrupt_file_is_replaced(model, file, content):
    key = Speeds(torch.device("cpu"))._key(model, "float32")
    file.parent.mkdir()
    file.write_bytes(content.replace(b"KEY", key.encode()))
    got = speed(model)
    assert got > 0
    assert json.loads(file.read_text()) == {key: got}


def test_a_folder_that_cannot_be_written_is_harmless(model, tmp_path, monkeypatch):
    # A file in the folder's place: that stops even root.
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert speed(model) > 0
    assert (tmp_path / "cache").read_text() == "mine"


def test_without_the_variable_it_is_in_the_home_folder(model, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    speed(model)
    assert (tmp_path / ".cache" / "gramophone" / "speeds.json").is_file()
