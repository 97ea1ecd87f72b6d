import hashlib

import pytest

from gramophone_server.jobs.blobs import BlobStore, DamagedBlobError, atomic_file


def test_what_is_put_is_got_by_its_hash(tmp_path):
    store = BlobStore(tmp_path)
    store.make()
    name = store.put(b"a picture")
    assert name == hashlib.sha256(b"a picture").hexdigest()
    assert store.get(name) == b"a picture"
    assert store.put(b"a picture") == name
    assert list(store.names()) == [name]


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_blob_is_not_given_out(tmp_path, damage):
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
def test_what_is_no_hash_never_reaches_the_file_system(tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(DamagedBlobError):
        BlobStore(tmp_path / "blobs").get(name)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_forgetting(tmp_path):
    store = BlobStore(tmp_path)
    store.make()
    name = store.put(b"a picture")
    store.delete(name)
    store.delete(name)
    assert list(store.names()) == []
