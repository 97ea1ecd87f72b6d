from dataclasses import replace
from pathlib import Path

import pytest

from gramophone_server.models.store import BUILTIN_MODEL, Model, ModelStore, UnknownModelError, verify

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


def test_the_built_in_models_are_always_there_and_good(store):
    assert names(store) == BUILTIN
    assert BUILTIN_MODEL in BUILTIN
    for name in BUILTIN:
        verify(store.get(name))


def test_a_model_that_is_added_is_found(store, added):
    assert names(store) == ["mine", *BUILTIN]
    assert store.get("mine") == added
    verify(added)


def test_adding_again_replaces_and_leaves_nothing_behind(store, added):
    again = add(store, "mine", b"other")
    assert again.manifest.sha256 != added.manifest.sha256
    verify(store.get("mine"))
    assert [entry.name for entry in store.root.iterdir()] == ["mine"]


def test_a_changed_or_missing_file_is_found_out(added):
    added.path.write_bytes(b"changed")
    with pytest.raises(ValueError, match="changed or damaged"):
        verify(added)
    added.path.unlink()
    with pytest.raises(ValueError, match="missing"):
        verify(added)


@pytest.mark.parametrize("name", ["nobody", "../mine", "/etc", "", ".", "Mine", "a/b", "x" * 100])
def test_unknown_and_path_like_names(store, added, name):
    with pytest.raises(UnknownModelError, match="there are mine, vgg19-random, vgg19-slim"):
        store.get(name)


@pytest.mark.parametrize("name", ["../x", "", "A", ".hidden"])
def test_names_that_cannot_be_added(store, name):
    with pytest.raises(ValueError, match="cannot be a model's name"):
        add(store, name)
    assert not store.root.exists()


def test_a_built_in_name_cannot_be_taken(store):
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


def test_a_folder_that_was_renamed_is_not_another_model(store, added):
    added.path.parent.rename(store.root / "other")
    assert names(store) == BUILTIN


def test_root_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAMOPHONE_MODELS", str(tmp_path))
    assert ModelStore().root == tmp_path
    monkeypatch.delenv("GRAMOPHONE_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert ModelStore().root == Path("/data/gramophone/models")
