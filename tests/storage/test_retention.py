"""What a store deletes, and what it keeps."""

import asyncio
import hashlib
from itertools import pairwise

import pytest

from gramophone_server.messages.events import Progress
from gramophone_server.storage.query import Query
from gramophone_server.storage.quotas import Retention

from .stores import events, make, opened, pixels_of, progress, result, run, spec_of, stored, stored_job

pytestmark = pytest.mark.usefixtures("each_database")


async def test_deleting_a_job_removes_files_that_no_other_job_uses(tmp_path):
    async with opened(tmp_path) as (store, _):
        for number, pixels in ((1, b"one"), (2, b"two"), (3, b"two")):
            job = make(number)
            await store.add(job, spec_of(pixels))
            await run(store, job, 1, result(b"result of %d" % number))
        assert stored(tmp_path) == {b"one", b"two", b"result of 1", b"result of 2", b"result of 3"}
        for number in (1, 2):
            job = await stored_job(store, f"{number:04}")  # type: ignore[assignment]
            await store.delete(job)
            assert await store.get(job.id) is None
        assert stored(tmp_path) == {b"two", b"result of 3"}
        assert pixels_of(store, await stored_job(store, "0003")) == b"two"


@pytest.mark.parametrize(
    ("retention", "left"),
    [(Retention(3600, 1 << 30), ["0001"]), (Retention(1e9, 1500), ["0003", "0001"]), (Retention(1e9, 1 << 30), None)],
    ids=["age", "bytes", "neither"],
)
async def test_old_jobs_are_deleted_but_unfinished_jobs_are_not(tmp_path, retention, left):
    async with opened(tmp_path, retention=retention) as (store, _):
        await asyncio.sleep(0.05)  # wait for the deletion at the start
        unfinished = make(1)
        await store.add(unfinished, spec_of(b"u" * 600))
        for number in (2, 3):
            job = make(number)
            await store.add(job, spec_of(b"%d" % number))
            store.record(job, job.start())
            await store.end(job, result(b"%d" % number * 800))
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET end_time = end_time - 7200 WHERE end_time IS NOT NULL")
        await store.delete_old()
        assert [job.id for job in await store.find(Query(10))] == (left or ["0003", "0002", "0001"])


async def test_uploads_belong_to_their_client_and_are_kept_for_a_day(tmp_path):
    async with opened(tmp_path) as (store, _):
        name = await store.uploads.add("me", b"file")
        assert name == hashlib.sha256(b"file").hexdigest()
        assert await store.uploads.add("me", b"file") == name
        assert await store.uploads.has("me", name) == 4
        assert (await store.uploads.file("me", name)).read_bytes() == b"file"
        assert await store.uploads.has("you", name) is None
        assert await store.uploads.file("you", name) is None
        await store.delete_old()
        assert (await store.uploads.file("me", name)).read_bytes() == b"file"
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE uploads SET used = used - 90000")
        await store.delete_old()
        assert await store.uploads.file("me", name) is None
        assert stored(tmp_path) == set()


async def test_progress_events_of_a_long_job_are_thinned_out(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.record(job, job.start())
        for i in range(1, 50_001):
            store.record(job, job.report(progress(i)))
        await store.end(job, result())
        kept = [e.detail.iteration for e in await events(store, job) if isinstance(e.detail, Progress)]
        assert kept[:4096] == list(range(1, 4097))
        assert len(kept) < 20_000
        assert max(b / a for a, b in pairwise(kept[4000:])) < 1.01


async def test_the_checkpoint_of_an_ended_job_is_removed(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.folder.checkpoint(job.id).write_bytes(b"checkpoint")
        await run(store, job, 1, None)
        assert not store.folder.checkpoint(job.id).exists()
