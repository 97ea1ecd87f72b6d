"""Damaged files and failed writes are reported, and other data is kept."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gramophone_server.blobs import DamagedBlobError
from gramophone_server.messages.events import State
from gramophone_server.storage.errors import StorageError
from tests.harness import wait_until

from .stores import make, opened, pixels_of, result, run, spec_of

pytestmark = pytest.mark.usefixtures("each_database")


def damage(folder: Path, what: Callable[[bytes], bytes], content: bytes) -> None:
    """Applies `what` to the stored file with that content."""
    for path in (folder / "blobs").glob("*/*"):
        if path.read_bytes() == content:
            path.write_bytes(what(content))


async def test_a_job_with_a_damaged_result_is_failed(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        await run(store, job, 1, result(b"picture"))
    damage(tmp_path, lambda data: data[:3], b"picture")
    async with opened(tmp_path) as (store, _):
        job = await store.get("0001")  # type: ignore[assignment]
        assert job.state is State.FAILED
        assert job.outcome.code == "DATA_LOSS"


async def test_damaged_pixels_raise_an_error(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        damage(tmp_path, lambda data: data[::-1], b"abc")
        with pytest.raises(DamagedBlobError, match="damaged"):
            pixels_of(store, job)


@pytest.mark.usefixtures("needs_sqlite")
@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(5000)])
async def test_a_damaged_database_is_renamed_and_kept(tmp_path, content):
    async with opened(tmp_path) as (store, _):
        await store.add(make(1), spec_of(b"abc"))
    (tmp_path / "jobs.sqlite").write_bytes(content)
    async with opened(tmp_path) as (store, unfinished):
        assert unfinished == []
        await store.add(make(2), spec_of(b"abc"))
    (aside,) = tmp_path.glob("jobs.damaged-*")
    assert aside.read_bytes() == content
    # The files of its jobs are kept too, so that the database can be repaired by hand.
    assert b"abc" in {path.read_bytes() for path in tmp_path.glob("blobs.damaged-*/*/*")}


async def test_files_of_interrupted_writes_are_removed(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.folder.checkpoint("0001").write_bytes(b"checkpoint")
        store.folder.checkpoint("0009").write_bytes(b"of a job that has ended")
    (tmp_path / "blobs" / "ab").mkdir(exist_ok=True)
    for name in ("blobs/ab/.x.part", "checkpoints/.y.part", f"blobs/ab/{'ab' * 32}"):
        (tmp_path / name).write_bytes(b"half")
    digest = hashlib.sha256(b"abc").hexdigest()
    kept = {"lock", "identity.json", "checkpoints/0001.pt", "blobs/.gramophone", f"blobs/{digest[:2]}/{digest}"}

    def left() -> set[str]:
        return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and "sqlite" not in p.name}

    async with opened(tmp_path):
        await asyncio.to_thread(wait_until, lambda: left() == kept, "the files to be removed", 10)


async def test_a_job_that_cannot_be_stored_is_refused(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = make(1)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store._archive, "add", full)
        with pytest.raises(StorageError, match="No space left"):
            await store.add(job, spec_of(b"abc"))
        assert await store.get(job.id) is None
