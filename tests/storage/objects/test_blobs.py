"""Blobs in a real object store, and their copies."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramophone_server.blobs import DamagedBlobError
from gramophone_server.storage.errors import ObjectStoreError
from gramophone_server.storage.objects.blobs import ObjectBlobs
from gramophone_server.storage.objects.remote import ObjectStore
from tests.object_store import URL, ObjectServer

pytestmark = pytest.mark.service


@pytest.fixture
def objects(monkeypatch) -> Iterator[ObjectServer]:
    with ObjectServer() as started:
        for name, value in started.variables().items():
            monkeypatch.setenv(name, value)
        yield started


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*/*")}


def grow_old(folder: Path) -> None:
    """Makes all copies look as if they were used ten minutes ago, in the order of their names."""
    for number, path in enumerate(sorted(folder.glob("*/*"))):
        os.utime(path, times=(time.time() - 600 + number,) * 2)


def test_copies_used_longest_ago_are_evicted_but_not_those_of_running_jobs(tmp_path, objects):
    needed: set[str] = set()
    blobs = ObjectBlobs(tmp_path, ObjectStore(URL), 3000, lambda: needed)
    blobs.bind("database", take=False)
    blobs.make()
    names = sorted(blobs.put(bytes([number]) * 1000) for number in range(3))
    grow_old(tmp_path)
    needed.add(names[0])
    fresh = blobs.put(b"x" * 1000)
    assert copies(tmp_path) == {names[0], fresh}
    assert sorted(name.removeprefix("blobs/") for name in objects.names("blobs")) == sorted([*names, fresh])
    # An evicted copy is fetched again.
    assert len(blobs.get(names[1])) == 1000
    assert names[1] in copies(tmp_path)


@pytest.mark.slow
def test_blobs_larger_than_one_part_of_an_upload_come_back_whole(tmp_path, objects):
    """The object store takes them in parts."""
    blobs = ObjectBlobs(tmp_path / "copies", ObjectStore(URL), 10**9)
    blobs.bind("database", take=False)
    blobs.make()
    data, other = (bytes([number]) + os.urandom(1 << 20) * 120 for number in range(2))
    file = tmp_path / "other"
    file.write_bytes(other)
    names = blobs.put(data), hashlib.sha256(other).hexdigest()
    blobs.adopt(names[1], file)
    for name in names:
        (tmp_path / "copies" / name[:2] / name).unlink()
    assert blobs.get(names[0]) == data
    assert blobs.get(names[1]) == other
    blobs.delete_all(names)
    assert objects.names("blobs") == []


def test_copies_in_use_stay_although_they_exceed_the_bound(tmp_path, objects):
    blobs = ObjectBlobs(tmp_path, ObjectStore(URL), 1000)
    blobs.bind("database", take=False)
    blobs.make()
    names = {blobs.put(bytes([number]) * 900) for number in range(3)}
    assert copies(tmp_path) == names


def test_a_missing_object_is_damage_but_an_emptied_store_is_not(tmp_path, objects):
    blobs = ObjectBlobs(tmp_path, ObjectStore(URL), 10**6)
    blobs.bind("database", take=False)
    blobs.make()
    name = blobs.put(b"picture")
    (tmp_path / name[:2] / name).unlink()
    objects.client.rm_file(f"{URL}/blobs/{name}")
    with pytest.raises(DamagedBlobError, match="is missing"):
        blobs.get(name)
    objects.client.rm_file(f"{URL}/gramophone")
    with pytest.raises(ObjectStoreError, match="has lost its mark"):
        blobs.get(name)


def test_an_absent_store_is_noticed_soon(tmp_path, objects):
    blobs = ObjectBlobs(tmp_path, ObjectStore(URL), 10**6)
    blobs.bind("database", take=False)
    blobs.make()
    with objects.away():
        begun = time.monotonic()
        with pytest.raises(ObjectStoreError, match="cannot be reached"):
            blobs.put(b"picture")
        assert time.monotonic() - begun < 10
    blobs.put(b"picture")
    blobs.probe()
