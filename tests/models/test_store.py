"""The store of models: built-in and added models, replacement, and damaged models."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gramophone_server.models.model import Model, ModelError
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore, UnknownModelError

BUILTIN = ["vgg19-random", "vgg19-slim"]


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def added(store) -> Model:
    return add(store, "mine")


def add(store: ModelStore, name: str, data: bytes = b"onnx") -> Model:
    return store.add(replace(store.get(BUILTIN_MODEL).manifest, name=name), data)


def names(store: ModelStore) -> list[str]:
    return [model.manifest.name for model in store.list()]


def test_the_built_in_models_are_always_available_and_undamaged(store):
    assert names(store) == BUILTIN
    assert BUILTIN_MODEL in BUILTIN
    for name in BUILTIN:
        store.get(name).verify()


def test_an_added_model_is_found(store, added):
    assert names(store) == ["mine", *BUILTIN]
    assert store.get("mine") == added
    added.verify()


def test_adding_a_model_again_replaces_it_and_leaves_no_files(store, added):
    again = add(store, "mine", b"other")
    assert again.manifest.sha256 != added.manifest.sha256
    store.get("mine").verify()
    assert [entry.name for entry in store.root.iterdir()] == ["mine"]


def test_verify_notices_a_changed_or_missing_file(added):
    added.path.write_bytes(b"changed")
    with pytest.raises(ValueError, match="changed or damaged"):
        added.verify()
    added.path.unlink()
    with pytest.raises(ValueError, match="missing"):
        added.verify()


@pytest.mark.parametrize("name", ["nobody", "../mine", "/etc", "", ".", "Mine", "a/b", "x" * 100])
def test_unknown_names_and_paths_are_not_found(store, added, name):
    with pytest.raises(UnknownModelError, match="the installed models are mine, vgg19-random, vgg19-slim"):
        store.get(name)


@pytest.mark.parametrize("name", ["../x", "", "A", ".hidden"])
def test_invalid_names_cannot_be_added(store, name):
    with pytest.raises(ValueError, match="cannot be a model's name"):
        add(store, name)
    assert not store.root.exists()


def test_a_built_in_model_cannot_be_replaced(store):
    with pytest.raises(ValueError, match="built-in"):
        add(store, BUILTIN_MODEL)


def test_a_broken_model_does_not_hide_the_others(store, added, caplog):
    broken = store.root / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    assert names(store) == ["mine", *BUILTIN]
    assert "broken" in caplog.text
    with pytest.raises(UnknownModelError):
        store.get("broken")


def test_a_renamed_folder_is_not_listed(store, added):
    added.path.parent.rename(store.root / "other")
    assert names(store) == BUILTIN


def test_variables_set_the_folder_of_the_store(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAMOPHONE_MODELS", str(tmp_path))
    assert ModelStore().root == tmp_path
    monkeypatch.delenv("GRAMOPHONE_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert ModelStore().root == Path("/data/gramophone/models")


def test_a_model_can_be_opened_while_it_is_being_replaced(store, added):
    done = threading.Event()

    def replace_it() -> None:
        for number in range(200):
            add(store, "mine", b"onnx" * number)
        done.set()

    thread = threading.Thread(target=replace_it)
    thread.start()
    found = set()
    while not done.is_set():
        with store.opened("mine") as model:
            found.add(len(model.read()))
    thread.join()
    assert len(found) > 3


def test_an_open_model_does_not_change_when_it_is_replaced(store, added):
    with store.opened("mine") as model:
        add(store, "mine", b"other")
        assert model.read() == b"onnx"
    with store.opened("mine") as model:
        assert model.read() == b"other"


def test_opening_a_model_without_the_layers_is_an_error(store, added):
    with pytest.raises(ModelError, match="no layer conv9_9 any more"), store.opened("mine", ["conv1_1", "conv9_9"]):
        pass


def test_a_damaged_model_is_logged_once(store, added, caplog):
    (store.root / "mine" / "manifest.json").write_bytes(b"\xff")
    for _ in range(3):
        assert names(store) == BUILTIN
    assert caplog.text.count("is ignored") == 1
