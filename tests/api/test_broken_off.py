"""What is kept of uploads that broke off: how much, for whom, and for how long."""

import asyncio
import hashlib

import pytest

from gramophone_server.api import broken_off
from gramophone_server.api.broken_off import BrokenOffUploads
from gramophone_server.rpc.violations import ConflictError

SIZE = 100_000


def keep(uploads: BrokenOffUploads, owner: str, name: str, folder, size: int = SIZE) -> None:
    file = uploads.take(owner, name, 0, folder)
    file.write(bytes(size))
    uploads.keep(owner, name, file)


async def gone(folder) -> bool:
    """Waits until no staging folder is left; they are deleted in a thread."""
    for _ in range(200):
        if not list(folder.iterdir()):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_file_continues_with_its_bytes_and_its_hash(tmp_path):
    uploads = BrokenOffUploads()
    keep(uploads, "alice", "a", tmp_path)
    file = uploads.take("alice", "a", SIZE, tmp_path)
    file.write(b"more")
    file.sync()
    assert file.path.read_bytes() == bytes(SIZE) + b"more"
    assert file.sha256 == hashlib.sha256(bytes(SIZE) + b"more").hexdigest()
    file.close()
    assert await gone(tmp_path)


async def test_a_client_sees_only_its_own_files(tmp_path):
    uploads = BrokenOffUploads()
    keep(uploads, "alice", "a", tmp_path)
    assert uploads.size("alice", "a") == SIZE
    assert uploads.size("bob", "a") is None
    with pytest.raises(ConflictError):
        uploads.take("bob", "a", SIZE, tmp_path)


async def test_the_oldest_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(broken_off, "_MAX_BYTES", 3 * SIZE)
    uploads = BrokenOffUploads()
    for name in "abcd":
        keep(uploads, "alice", name, tmp_path)
    assert [uploads.size("alice", name) for name in "abcd"] == [None, SIZE, SIZE, SIZE]
    monkeypatch.setattr(broken_off, "_MAX_FILES", 2)
    keep(uploads, "alice", "e", tmp_path)
    assert [name for name in "abcde" if uploads.size("alice", name)] == ["d", "e"]


async def test_a_few_bytes_are_not_kept(tmp_path):
    uploads = BrokenOffUploads()
    keep(uploads, "alice", "a", tmp_path, size=100)
    assert uploads.size("alice", "a") is None
    assert await gone(tmp_path)


async def test_files_are_deleted_after_some_time(tmp_path, monkeypatch):
    monkeypatch.setattr(broken_off, "_SECONDS", 0.05)
    uploads = BrokenOffUploads()
    keep(uploads, "alice", "a", tmp_path)
    await asyncio.sleep(0.2)
    assert uploads.size("alice", "a") is None
    assert await gone(tmp_path)
