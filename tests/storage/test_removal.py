"""Files are removed with the last job or upload that uses them, also after a crash in between."""

import asyncio
import subprocess
import sys

import pytest
import sqlalchemy as sa

from gramophone_server.storage.database import blobs, freed, jobs
from gramophone_server.storage.removal import delete_jobs
from gramophone_server.storage.store import JobStore
from tests.harness import wait_until

from .stores import make, opened, result, run, spec_of, stored

pytestmark = pytest.mark.usefixtures("each_database")


async def add(store: JobStore, number: int, pixels: bytes) -> None:
    """Adds a job that ends."""
    job = make(number)
    await store.add(job, spec_of(pixels))
    await run(store, job, 0, result(b"result of %d" % number))


def rows(store: JobStore, table: sa.Table) -> int:
    with store._engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def delete_rows(store: JobStore, job_id: str) -> None:
    """Deletes a job, but not yet its files."""
    with store._archive.transactions.writing() as connection:
        assert delete_jobs(connection, jobs.c.id == job_id) == 1


# The process ends when it deletes the first file: the job is deleted then, the rows of its files are not.
CRASH = """if True:
    import asyncio, os, sys
    from pathlib import Path
    from gramophone_server.blobs import BlobStore
    from gramophone_server.storage.folder import DataFolder
    from gramophone_server.storage.store import JobStore

    async def delete():
        store = JobStore(DataFolder(Path(sys.argv[1])), sys.argv[2] or None)
        await store.open()
        BlobStore.delete = lambda *_: os._exit(9)
        await store.delete(await store.get("0001"))

    asyncio.run(delete())
"""


async def test_a_crash_between_the_job_and_its_files_is_made_up_for(tmp_path, each_database):
    async with opened(tmp_path) as (store, _):
        await add(store, 1, b"one")
        await add(store, 2, b"two")
        url = "" if each_database == "sqlite" else store._engine.url.render_as_string(hide_password=False)
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", CRASH, str(tmp_path), url])
    assert done.returncode == 9
    assert b"one" in stored(tmp_path)
    async with opened(tmp_path) as (store, _):
        kept = {b"two", b"result of 2"}
        await asyncio.to_thread(wait_until, lambda: stored(tmp_path) == kept, "the files to be removed", 10)
        assert await store.get("0001") is None
        assert (rows(store, blobs), rows(store, freed)) == (2, 0)


async def test_a_file_that_is_used_again_before_it_is_removed_is_kept(tmp_path):
    async with opened(tmp_path) as (store, _):
        await add(store, 1, b"pixels")
        delete_rows(store, "0001")
        await add(store, 2, b"pixels")
        store._archive.stored.remove_unused()
        assert stored(tmp_path) == {b"pixels", b"result of 2"}
        job = await store.get("0002")
        assert job is not None
        await store.delete(job)
        assert stored(tmp_path) == set()
        assert (rows(store, blobs), rows(store, freed)) == (0, 0)


async def test_a_file_of_an_upload_and_a_job_is_removed_with_the_last(tmp_path):
    async with opened(tmp_path) as (store, _):
        await add(store, 1, b"pixels")
        await store.uploads.add("me", b"pixels")
        job = await store.get("0001")
        assert job is not None
        await store.delete(job)
        assert stored(tmp_path) == {b"pixels"}
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE uploads SET used = used - 90000")
        await store.delete_old()
        assert stored(tmp_path) == set()


async def test_more_old_jobs_than_are_deleted_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("gramophone_server.storage.quotas._BATCH", 2)
    monkeypatch.setattr("gramophone_server.storage.removal._BATCH", 3)
    async with opened(tmp_path) as (store, _):
        for number in range(1, 6):
            await add(store, number, b"pixels of %d" % number)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET end_time = end_time - 1e9 WHERE id <> '0003'")
        await store.delete_old()
        assert stored(tmp_path) == {b"pixels of 3", b"result of 3"}
        assert (rows(store, jobs), rows(store, blobs), rows(store, freed)) == (1, 2, 0)
