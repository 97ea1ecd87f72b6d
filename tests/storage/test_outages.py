"""A store whose storage is unavailable for some time; tests/faults tests real outages."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gramophone_server.messages.events import Failure, Progress, State
from gramophone_server.storage.errors import StorageAwayError, StorageFullError
from gramophone_server.storage.folder import DataFolderError
from gramophone_server.storage.job import Job
from gramophone_server.storage.query import Query
from gramophone_server.storage.store import JobStore

from .stores import events, make, opened, progress, result, spec_of, stored_job


def lose_connection(*_: object) -> None:
    raise sa.exc.OperationalError("COMMIT", None, Exception("the connection was lost"))


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """Renames the folder of blobs, so that jobs with pictures and results cannot be written."""
    (folder / "blobs").rename(folder / "elsewhere")
    try:
        yield
    finally:
        (folder / "elsewhere").rename(folder / "blobs")


def failing_after(archive: Any, name: str, times: int) -> Callable[..., Any]:
    """Returns the method, changed to do its work and then lose the connection, the first `times` times."""
    method, left = getattr(archive, name), [times]

    def work(*args: Any) -> Any:
        done = method(*args)
        left[0] -= 1
        if left[0] >= 0:
            lose_connection()
        return done

    return work


async def running(store: JobStore, number: int) -> Job:
    job = make(number)
    await store.add(job, spec_of(b"abc"))
    store.record(job, job.start())
    return job


async def test_the_end_of_a_job_waits_until_it_can_be_written(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        watcher = asyncio.create_task(anext(event async for event in job.watch() if event.state.final))
        with away(tmp_path):
            ending = asyncio.create_task(store.end(job, result(b"picture")))
            await asyncio.sleep(0.5)
            assert store.condition.trouble is not None
            assert not ending.done() and not watcher.done()
            assert store.is_ending(job)
            assert (await stored_job(store, job.id)).state is State.RUNNING
        async with asyncio.timeout(5):
            await ending
            assert (await watcher).state is State.SUCCEEDED
        await store.condition.good()
        assert [job.state for job in await store.find(Query(9))] == [State.SUCCEEDED]
    async with opened(tmp_path) as (store, unfinished):
        assert unfinished == []
        assert (await stored_job(store, "0001")).outcome.image.data == b"picture"


async def test_a_job_whose_end_was_not_written_is_unfinished_for_the_next_server(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        with away(tmp_path):
            ending = asyncio.create_task(store.end(job, result()))
            await asyncio.sleep(0.3)
            await store.close()
            ending.cancel()
    async with opened(tmp_path) as (_, unfinished):
        assert [job.id for job in unfinished] == ["0001"]


async def test_an_end_whose_commit_lost_its_connection_is_written_once(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        monkeypatch.setattr(store._archive, "end", failing_after(store._archive, "end", 2))
        async with asyncio.timeout(5):
            await store.end(job, result())
        assert job.state is State.SUCCEEDED
        assert [e.state for e in await events(store, job)] == [State.QUEUED, State.RUNNING, State.SUCCEEDED]


async def test_a_result_that_cannot_be_written_becomes_a_failure(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        end = store._archive.end

        def refuse(job: Job, event: Any) -> None:
            if event.state is State.SUCCEEDED:
                raise ValueError("A string literal cannot contain NUL")
            end(job, event)

        monkeypatch.setattr(store._archive, "end", refuse)
        await store.end(job, result())
        assert job.state is State.FAILED
        assert job.outcome.code == "INTERNAL"


async def test_a_refused_submission_can_be_repeated(tmp_path):
    async with opened(tmp_path) as (store, _):
        with away(tmp_path), pytest.raises(StorageAwayError):
            await store.add(make(1, request_id="r"), spec_of(b"abc"))
        await store.condition.good()
        assert await store.submitted_as("", "r") is None
        await store.add(make(2, request_id="r"), spec_of(b"abc"))
        assert (await store.submitted_as("", "r")).id == "0002"


async def test_a_submission_whose_commit_lost_its_connection_is_one_job(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        monkeypatch.setattr(store._archive, "add", failing_after(store._archive, "add", 1))
        await store.add(make(1, request_id="r"), spec_of(b"abc"))
        assert [job.id for job in await store.find(Query(9))] == ["0001"]
        assert not store._in_doubt


async def test_a_refused_submission_is_removed_even_if_its_commit_succeeded(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        monkeypatch.setattr("gramophone_server.storage.access.PATIENCE", 0.0)
        monkeypatch.setattr(store._archive, "add", failing_after(store._archive, "add", 1))
        with pytest.raises(StorageAwayError):
            await store.add(make(1), spec_of(b"abc"))
        await store.condition.good()
        assert await store.find(Query(9)) == []
        assert list((tmp_path / "blobs").glob("*/*")) == []


async def test_events_are_kept_until_they_can_be_written(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        await store.flush()
        record, good = store._archive.record, False

        def record_if_good(news: Any) -> None:
            if not good:
                lose_connection()
            record(news)

        monkeypatch.setattr(store._archive, "record", record_if_good)
        monkeypatch.setattr(store._archive, "events", lose_connection)
        for iteration in range(1, 1001):
            store.record(job, job.report(progress(iteration)))
        await store.flush()
        # A watcher of an unfinished job also sees events that are not written yet.
        seen = [e.detail.iteration for e in await events(store, job) if isinstance(e.detail, Progress)]
        assert seen == list(range(1, 1001))
        monkeypatch.undo()
        monkeypatch.setattr(store._archive, "record", record_if_good)
        good = True
        await store.condition.good()
        await store.end(job, None)
    async with opened(tmp_path) as (store, _):
        history = await events(store, await stored_job(store, "0001"))
        assert [e.detail.iteration for e in history if isinstance(e.detail, Progress)] == list(range(1, 1001))


async def test_too_many_unwritten_progress_events_are_thinned_out_but_states_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("gramophone_server.storage.event_buffer._MAX_EVENTS", 100)
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        monkeypatch.setattr(store._archive, "record", lose_connection)
        for iteration in range(1, 1001):
            store.record(job, job.report(progress(iteration)))
            if iteration % 50 == 0:
                await store.flush()
        assert len(store._buffer) < 200
        assert store._buffer._waiting[0][1].state is State.RUNNING and store._buffer._waiting[0][1].detail is None


async def test_a_full_disk_refuses_submissions_and_is_not_reported_as_trouble(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store._archive, "add", full)
        with pytest.raises(StorageFullError):
            await store.add(make(1), spec_of(b"abc"))
        assert store.condition.trouble is None


async def test_a_checkpoint_is_deleted_to_make_room_for_the_result(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        checkpoint = store.folder.checkpoint(job.id)
        checkpoint.write_bytes(b"large")
        end = store._archive.end

        def full(*args: Any) -> None:
            if checkpoint.exists():
                raise OSError(28, "No space left on device")
            end(*args)

        monkeypatch.setattr(store._archive, "end", full)
        await store.end(job, result())
        assert job.state is State.SUCCEEDED
        assert store.condition.trouble is None


async def test_a_failed_deletion_is_repeated_later(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = await running(store, 1)
        await store.end(job, Failure("INTERNAL", "why"))
        with away(tmp_path), pytest.raises(StorageAwayError):
            await store.delete(job)
        await store.condition.good()
        await store.delete_old()
        assert list((tmp_path / "blobs").glob("*/*")) == []


async def test_a_data_folder_without_its_pictures_is_refused(tmp_path):
    async with opened(tmp_path) as (store, _):
        await store.add(make(1), spec_of(b"abc"))
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    with pytest.raises(DataFolderError, match="blobs is empty"):
        async with opened(tmp_path):
            pass
    (tmp_path / "blobs").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "blobs")
    async with opened(tmp_path) as (_, unfinished):
        assert len(unfinished) == 1
