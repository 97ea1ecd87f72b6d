"""The store of jobs: what it writes, what the next store finds, queries, and concurrent access."""

import asyncio
import gc
import shutil
import time
from typing import Any

import pytest
import sqlalchemy as sa

from gramophone_server.messages.events import Failure, Progress, State
from gramophone_server.storage.database import metadata, open_engine
from gramophone_server.storage.errors import StorageError
from gramophone_server.storage.folder import DataFolder, DataFolderError
from gramophone_server.storage.query import Query
from tests import databases
from tests.harness import wait_until

from .stores import events, make, opened, pixels_of, progress, result, run, spec_of

pytestmark = pytest.mark.usefixtures("each_database")


def written_events(engine: sa.Engine) -> list[sa.Row]:
    """The events in the database."""
    with engine.connect() as connection:
        return list(connection.execute(sa.select(metadata.tables["events"])))


async def test_the_next_store_has_an_ended_job_with_its_history(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1, owner="me", priority=3)
        await store.add(job, spec_of(b"abc"))
        await run(store, job, 1000, result())
        before = await events(store, job)
        ending = job.outcome
        del job
    async with opened(tmp_path) as (store, unfinished):
        assert unfinished == []
        job = await store.get("0001")  # type: ignore[assignment]
        assert job is not None
        assert (job.owner, job.priority, job.attempts, job.state) == ("me", 3, 1, State.SUCCEEDED)
        assert job.outcome == ending
        assert ending.image.data == b"picture"
        history = await events(store, job)
        assert [(e.sequence, e.state, e.detail) for e in history] == [(e.sequence, e.state, e.detail) for e in before]
        assert [e.state for e in (*history[:2], history[-1])] == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
        assert [e.detail.iteration for e in history if isinstance(e.detail, Progress)] == list(range(1, 1001))
        assert [e.sequence for e in await events(store, job, after=900)] == list(range(901, 1004))


async def test_the_next_store_returns_unfinished_jobs_running_ones_first(tmp_path):
    async with opened(tmp_path) as (store, _):
        waiting, running, ended = make(1), make(2), make(3)
        for job in (waiting, running, ended):
            await store.add(job, spec_of(b"abc"))
        store.record(running, running.start())
        store.record(running, running.report(progress(5)))
        seen = running.sequence
        await run(store, ended, 1, None)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0002", "0001"]
        running = unfinished[0]
        assert running.attempts == 1
        assert running.progress is not None and running.progress.iteration == 5
        assert running.queue().sequence > seen
        assert pixels_of(store, running) == b"abc"
        assert await store.get("0002") is running


async def test_a_start_is_written_at_once_and_progress_in_batches(tmp_path, monkeypatch):
    """The start is written at once, so that a killed server does not lose the count of attempts."""
    monkeypatch.setattr("gramophone_server.storage.event_buffer._FLUSH_EVERY", 3600)
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.record(job, job.start())
        engine = open_engine(databases.of_folder(tmp_path) or f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        try:
            await asyncio.to_thread(wait_until, lambda: len(written_events(engine)) == 2, "the start to be written")
            store.record(job, job.report(progress(5)))
            await asyncio.sleep(0.1)
            assert len(written_events(engine)) == 2
            await store.flush()
            assert len(written_events(engine)) == 3
        finally:
            engine.dispose()


@pytest.mark.usefixtures("needs_sqlite")
async def test_sequence_numbers_continue_after_events_that_were_seen_but_not_written(tmp_path):
    """The copy of the folder is as after a kill: unwritten events are lost with the process."""
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.record(job, job.start())
        await store.flush()
        for i in range(1, 500):
            job.report(progress(i))
        last_seen = job.sequence
        shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    async with opened(tmp_path / "copy") as (store, (job,)):
        assert job.queue().sequence > last_seen


async def test_a_submission_is_found_by_owner_and_request_id(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1, owner="me", request_id="r")
        await store.add(job, spec_of(b"abc"))
        assert await store.submitted_as("me", "r") is job
        assert await store.submitted_as("you", "r") is None
        assert await store.submitted_as("me", "s") is None
        with pytest.raises(StorageError):
            await store.add(make(2, owner="me", request_id="r"), spec_of(b"abc"))
        await store.add(make(3, owner="you", request_id="r"), spec_of(b"abc"))


async def test_queries_filter_and_order_jobs(tmp_path):
    async with opened(tmp_path) as (store, _):
        for number, owner in enumerate("abab", start=1):
            job = make(number, owner=owner, create_time=100.0 * number)
            await store.add(job, spec_of(b"abc"))
            if number > 2:
                await run(store, job, 1, result() if number == 3 else Failure("INTERNAL", "why"))

        async def ids(**fields: Any) -> list[str]:
            return [job.id for job in await store.find(Query(10, **fields))]  # type: ignore[arg-type]

        assert await ids() == ["0004", "0003", "0002", "0001"]
        assert await ids(oldest_first=True, after="0002") == ["0003", "0004"]
        assert await ids(after="0003") == ["0002", "0001"]
        assert await ids(owner="a") == ["0003", "0001"]
        assert await ids(states=(State.QUEUED, State.FAILED)) == ["0004", "0002", "0001"]
        assert await ids(kinds=("content",)) == []
        assert await ids(kinds=("style",), model="nobody") == []
        assert await ids(created_after=200.0, created_before=400.0) == ["0003", "0002"]
        assert [job.id for job in await store.find(Query(2))] == ["0004", "0003"]


async def test_two_servers_cannot_share_a_folder(tmp_path):
    async with opened(tmp_path):
        with pytest.raises(DataFolderError, match="another server"):
            DataFolder(tmp_path)
    DataFolder(tmp_path).close()


async def test_a_temporary_folder_is_removed_with_its_store():
    async with opened(None) as (store, _):
        await store.add(make(1), spec_of(b"abc"))
        folder = store.folder.path
        assert not store.permanent
        assert folder.exists()
    assert not folder.exists()


async def test_adding_a_job_does_not_block_the_event_loop(tmp_path):
    """Other tasks run while the job is written to the disk."""
    async with opened(tmp_path) as (store, _):
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        beating = asyncio.create_task(beat())
        begun = time.monotonic()
        await store.add(make(1), spec_of(bytes(10_000_000)))
        assert beats > 10 or time.monotonic() - begun < 0.001
        beating.cancel()


async def test_get_returns_the_same_object_while_a_job_is_being_added(tmp_path):
    async with opened(tmp_path) as (store, _):
        for number in range(60):
            job = make(number)
            adding = asyncio.create_task(store.add(job, spec_of(b"abc")))
            await asyncio.sleep(0)
            # A client can have the id from a list before `add` returns.
            while (found := await store.get(job.id)) is None:
                pass
            assert found is job
            await adding


async def test_a_job_deleted_while_it_is_read_has_its_end(tmp_path):
    """Without its end, a watcher would wait forever."""
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        await run(store, job, 2, None)
        # Free the job's object, so that the store reads the job from the database.
        del job
        gc.collect()
        deleted: list[str] = []

        @sa.event.listens_for(store._engine, "before_cursor_execute")
        def delete(_: object, cursor: object, statement: str, *__: object) -> None:
            if "FROM events" in statement and not deleted:
                deleted.append("0001")
                store._archive.delete(deleted)

        found = await store.get("0001")
        assert deleted
        assert found is not None
        assert found.state is State.CANCELLED
        assert [event.state async for event in found.watch()][-1] is State.CANCELLED
        assert store._archive.load("0001") is None
