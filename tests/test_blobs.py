"""The blob store: files named by their SHA-256, and how it finds, counts and repairs damage."""

import hashlib

import pytest

from gramophone_server.blobs import BlobStore, DamagedBlobError


def test_put_returns_the_hash_by_which_get_finds_the_data(tmp_path):
    store = BlobStore(tmp_path)
    store.make()
    name = store.put(b"a picture")
    assert name == hashlib.sha256(b"a picture").hexdigest()
    assert store.get(name) == b"a picture"
    assert store.put(b"a picture") == name
    assert list(store.names()) == [name]


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_getting_a_damaged_blob_is_an_error(tmp_path, damage):
    store = BlobStore(tmp_path)
    store.make()
    name = store.put(b"a picture")
    (path,) = tmp_path.glob("*/*")
    match damage:
        case "truncated":
            path.write_bytes(b"a pic")
        case "changed":
            path.write_bytes(b"A picture")
        case "gone":
            path.unlink()
    with pytest.raises(DamagedBlobError):
        store.get(name)


@pytest.mark.parametrize("name", ["", "../secret", "/etc/passwd", "a" * 63, "A" * 64, "a\0" * 32])
def test_names_that_are_not_hashes_never_reach_the_file_system(tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(DamagedBlobError):
        BlobStore(tmp_path / "blobs").get(name)


def test_delete_may_be_repeated(tmp_path):
    store = BlobStore(tmp_path)
    store.make()
    name = store.put(b"a picture")
    store.delete(name)
    store.delete(name)
    assert list(store.names()) == []


@pytest.fixture
def damaged(tmp_path):
    """(store with one damaged blob, name of the blob, its file)."""
    store = BlobStore(tmp_path)
    store.make()
    name = store.put(b"a picture")
    (path,) = tmp_path.glob("*/*")
    path.write_bytes(b"A picture")
    return store, name, path


def test_putting_a_damaged_blob_again_repairs_it(damaged):
    store, name, path = damaged
    assert not store.is_good(name)
    assert (store.damaged, store.repaired) == (1, 0)
    assert store.put(b"a picture") == name
    assert store.is_good(name) and store.get(name) == path.read_bytes() == b"a picture"
    assert (store.damaged, store.repaired) == (1, 1)


def test_damage_is_counted_once_until_it_is_repaired(damaged):
    store, name, path = damaged
    for _ in range(3):
        with pytest.raises(DamagedBlobError):
            store.get(name)
    assert store.damaged == 1
    store.put(b"a picture")
    path.unlink()
    assert store.file(name) is None
    assert (store.damaged, store.repaired) == (2, 1)


def test_adopting_a_file_repairs_its_damaged_blob(damaged, tmp_path):
    store, name, path = damaged
    path.unlink()
    path.mkdir()
    staged = tmp_path / "staged"
    staged.write_bytes(b"a picture")
    store.adopt(name, staged)
    assert store.get(name) == b"a picture"
    assert (store.damaged, store.repaired) == (1, 1)


def test_delete_removes_a_folder_in_place_of_a_blob(damaged):
    store, name, path = damaged
    path.unlink()
    (path / "within").mkdir(parents=True)
    with pytest.raises(DamagedBlobError):
        store.get(name)
    store.delete(name)
    assert not path.exists()


def test_a_missing_folder_of_blobs_is_an_error_and_not_counted_as_damage(damaged, tmp_path):
    store, name, _ = damaged
    for path in tmp_path.iterdir():
        path.rename(tmp_path.parent / path.name)
    for use in (lambda: store.get(name), lambda: store.put(b"a picture"), lambda: store.is_good(name)):
        with pytest.raises(OSError, match="is missing"):
            use()
    assert store.damaged == 0
    assert list(tmp_path.iterdir()) == []
