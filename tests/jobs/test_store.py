"""Jobs outlive the store that kept them.

In SQLite; or in the database of the URL in GRAMOPHONE_TEST_DATABASE, whose tables of ours are dropped for each test.
"""

import asyncio
import gc
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from gramophone_server.jobs.archive import Query
from gramophone_server.jobs.database import metadata, open_engine
from gramophone_server.jobs.events import EncodedPicture, Event, Failure, LossTerm, Progress, Result, State
from gramophone_server.jobs.folder import DataFolder, DataFolderError
from gramophone_server.jobs.job import Job
from gramophone_server.jobs.spec import JobSpec, Picture, StylePicture
from gramophone_server.jobs.store import JobStore, Retention, StorageError
from tests.harness import wait_until

from .specs import make_spec

DATABASE = os.environ.get("GRAMOPHONE_TEST_DATABASE")
of_sqlite = pytest.mark.skipif(bool(DATABASE), reason="is about the database in the folder")

TERMS = (LossTerm("style", "conv1_1", 0.5, 1.0),)


def spec_of(pixels: bytes) -> JobSpec:
    return make_spec(styles=(StylePicture(Picture(1, 1, pixels, "0" * 64), 1.0),))


def result(data: bytes = b"picture") -> Result:
    return Result(EncodedPicture(data, "png", 1, 1), 0.5, TERMS, 9, "model", "{}", 1.0, 2.0)


def progress(iteration: int, preview: EncodedPicture | None = None) -> Progress:
    return Progress(iteration, 100, 1.0 / iteration, TERMS, 1.0, 0.5, 0.5, preview)


def make(number: int, **fields: object) -> Job:
    return Job(f"{number:04}", spec_of(b"abc").without_pixels(), **fields)  # type: ignore[arg-type]


def kept(engine: sa.Engine) -> list[sa.Row]:
    """The events that are in the database."""
    with engine.connect() as connection:
        return list(connection.execute(sa.select(metadata.tables["events"])))


@pytest.fixture(autouse=True)
def empty_database() -> None:
    if DATABASE:
        engine = open_engine(DATABASE)
        metadata.drop_all(engine)
        engine.dispose()


@asynccontextmanager
async def opened(folder: Path | None, **options: object) -> AsyncIterator[tuple[JobStore, list[Job]]]:
    store = JobStore(DataFolder(folder), DATABASE, **options)  # type: ignore[arg-type]
    try:
        unfinished = await store.open()
        yield store, unfinished
    finally:
        await store.close()


async def run(store: JobStore, job: Job, reports: int, outcome: Result | Failure | None) -> None:
    store.record(job, job.start())
    for i in range(1, reports + 1):
        store.record(job, job.report(progress(i)))
    await store.end(job, outcome)


async def events(store: JobStore, job: Job, after: int = 0) -> list[Event]:
    return [event async for event in store.replay(job, after)]


async def test_an_ended_job_is_found_again_with_all_of_its_history(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1, owner="me", priority=3)
        await store.add(job, spec_of(b"abc"))
        await run(store, job, 1000, result())
        before = await events(store, job)
        ending = job.outcome
        del job
    async with opened(tmp_path) as (store, unfinished):
        assert unfinished == []
        job = await store.get("0001")
        assert job is not None
        assert (job.owner, job.priority, job.attempts, job.state) == ("me", 3, 1, State.SUCCEEDED)
        assert job.outcome == ending
        assert ending.image.data == b"picture"
        history = await events(store, job)
        assert [(e.sequence, e.state, e.detail) for e in history] == [(e.sequence, e.state, e.detail) for e in before]
        assert [e.state for e in (*history[:2], history[-1])] == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
        assert [e.detail.iteration for e in history if isinstance(e.detail, Progress)] == list(range(1, 1001))
        assert [e.sequence for e in await events(store, job, after=900)] == list(range(901, 1004))


async def test_unfinished_jobs_are_handed_on_those_that_ran_first(tmp_path):
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
        assert (await store.spec(running)).styles[0].picture.rgb == b"abc"
        assert await store.get("0002") is running


async def test_a_start_is_kept_at_once_and_figures_when_they_have_gathered(tmp_path, monkeypatch):
    """So a server that is killed leaves word of whose attempts were whose."""
    monkeypatch.setattr("gramophone_server.jobs.store._FLUSH_EVERY", 3600)
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.record(job, job.start())
        engine = open_engine(DATABASE or f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        try:
            await asyncio.to_thread(wait_until, lambda: len(kept(engine)) == 2, "the start to be kept")
            store.record(job, job.report(progress(5)))
            await asyncio.sleep(0.1)
            assert len(kept(engine)) == 2
            await store.flush()
            assert len(kept(engine)) == 3
        finally:
            engine.dispose()


@of_sqlite
async def test_numbers_go_on_beyond_what_was_seen_but_never_written(tmp_path):
    """As after a kill: what waits to be written is lost with the process."""
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


async def test_a_submission_is_found_by_its_name_and_owner(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1, owner="me", request_id="r")
        await store.add(job, spec_of(b"abc"))
        assert await store.submitted_as("me", "r") is job
        assert await store.submitted_as("you", "r") is None
        assert await store.submitted_as("me", "s") is None
        with pytest.raises(StorageError):
            await store.add(make(2, owner="me", request_id="r"), spec_of(b"abc"))
        await store.add(make(3, owner="you", request_id="r"), spec_of(b"abc"))


async def test_queries(tmp_path):
    async with opened(tmp_path) as (store, _):
        for number, owner in enumerate("abab", start=1):
            job = make(number, owner=owner, create_time=100.0 * number)
            await store.add(job, spec_of(b"abc"))
            if number > 2:
                await run(store, job, 1, result() if number == 3 else Failure("INTERNAL", "why"))

        async def ids(**fields: object) -> list[str]:
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


async def test_deleting_removes_the_files_that_nothing_else_needs(tmp_path):
    async with opened(tmp_path) as (store, _):
        for number, pixels in ((1, b"one"), (2, b"two"), (3, b"two")):
            job = make(number)
            await store.add(job, spec_of(pixels))
            await run(store, job, 1, result(b"result of %d" % number))
        assert stored(tmp_path) == {b"one", b"two", b"result of 1", b"result of 2", b"result of 3"}
        for number in (1, 2):
            job = await store.get(f"{number:04}")
            await store.delete(job)
            assert await store.get(job.id) is None
        assert stored(tmp_path) == {b"two", b"result of 3"}
        assert (await store.spec(make(3))).styles[0].picture.rgb == b"two"


def stored(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in (folder / "blobs").glob("*/*")}


@pytest.mark.parametrize(
    ("retention", "left"),
    [(Retention(3600, 1 << 30), ["0001"]), (Retention(1e9, 1500), ["0003", "0001"]), (Retention(1e9, 1 << 30), None)],
    ids=["age", "bytes", "neither"],
)
async def test_old_jobs_are_forgotten_but_never_unfinished_ones(tmp_path, retention, left):
    async with opened(tmp_path, retention=retention) as (store, _):
        await asyncio.sleep(0.05)  # the round at the start
        unfinished = make(1)
        await store.add(unfinished, spec_of(b"u" * 600))
        for number in (2, 3):
            job = make(number)
            await store.add(job, spec_of(b"%d" % number))
            store.record(job, job.start())
            await store.end(job, result(b"%d" % number * 800))
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET end_time = end_time - 7200 WHERE end_time IS NOT NULL")
        await store.forget()
        assert [job.id for job in await store.find(Query(10))] == (left or ["0003", "0002", "0001"])


async def test_uploads_belong_to_their_client_and_last_a_day(tmp_path):
    async with opened(tmp_path) as (store, _):
        name = await store.add_upload("me", b"file")
        assert name == hashlib.sha256(b"file").hexdigest()
        assert await store.add_upload("me", b"file") == name
        assert await store.has_upload("me", name) == 4
        assert store.upload("me", name) == b"file"
        assert await store.has_upload("you", name) is None
        assert store.upload("you", name) is None
        await store.forget()
        assert store.upload("me", name) == b"file"
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE uploads SET used = used - 90000")
        await store.forget()
        assert store.upload("me", name) is None
        assert stored(tmp_path) == set()


async def test_figures_of_a_long_job_are_kept_sparsely(tmp_path):
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


def damage(folder: Path, what: Callable[[bytes], bytes], content: bytes) -> None:
    for path in (folder / "blobs").glob("*/*"):
        if path.read_bytes() == content:
            path.write_bytes(what(content))


async def test_a_damaged_result_is_a_failed_job_not_a_damaged_picture(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        await run(store, job, 1, result(b"picture"))
    damage(tmp_path, lambda data: data[:3], b"picture")
    async with opened(tmp_path) as (store, _):
        job = await store.get("0001")
        assert job.state is State.FAILED
        assert job.outcome.code == "DATA_LOSS"


async def test_damaged_pixels_are_said_so(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        damage(tmp_path, lambda data: data[::-1], b"abc")
        with pytest.raises(StorageError, match="lost or damaged"):
            await store.spec(job)


@of_sqlite
@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(5000)])
async def test_a_damaged_database_is_put_aside(tmp_path, content):
    async with opened(tmp_path) as (store, _):
        await store.add(make(1), spec_of(b"abc"))
    (tmp_path / "jobs.sqlite").write_bytes(content)
    async with opened(tmp_path) as (store, unfinished):
        assert unfinished == []
        await store.add(make(2), spec_of(b"abc"))
    (aside,) = tmp_path.glob("jobs.damaged-*")
    assert aside.read_bytes() == content


async def test_what_a_cut_off_write_left_is_removed(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.folder.checkpoint("0001").write_bytes(b"checkpoint")
        store.folder.checkpoint("0009").write_bytes(b"of a job that has ended")
    (tmp_path / "blobs" / "ab").mkdir(exist_ok=True)
    for name in ("blobs/ab/.x.part", "checkpoints/.y.part", f"blobs/ab/{'ab' * 32}"):
        (tmp_path / name).write_bytes(b"half")
    async with opened(tmp_path):
        left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and "sqlite" not in p.name}
        digest = hashlib.sha256(b"abc").hexdigest()
        assert left == {"lock", "checkpoints/0001.pt", f"blobs/{digest[:2]}/{digest}"}


async def test_the_checkpoint_of_an_ended_job_is_removed(tmp_path):
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        store.folder.checkpoint(job.id).write_bytes(b"checkpoint")
        await run(store, job, 1, None)
        assert not store.folder.checkpoint(job.id).exists()


async def test_two_servers_do_not_share_a_folder(tmp_path):
    async with opened(tmp_path):
        with pytest.raises(DataFolderError, match="another server"):
            DataFolder(tmp_path)
    DataFolder(tmp_path).close()


async def test_a_temporary_folder_goes_with_its_server():
    async with opened(None) as (store, _):
        await store.add(make(1), spec_of(b"abc"))
        folder = store.folder.path
        assert not store.lasting
        assert folder.exists()
    assert not folder.exists()


async def test_adding_is_quick(tmp_path):
    """Not how quick: that each is on the disk does not hold up the loop."""
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


async def test_whoever_finds_a_job_at_once_finds_the_one_that_changes(tmp_path):
    async with opened(tmp_path) as (store, _):
        for number in range(60):
            job = make(number)
            adding = asyncio.create_task(store.add(job, spec_of(b"abc")))
            await asyncio.sleep(0)
            # As a client would that has its id from a list.
            while (found := await store.get(job.id)) is None:
                pass
            assert found is job
            await adding


async def test_a_job_that_cannot_be_kept_is_not_known(tmp_path, monkeypatch):
    async with opened(tmp_path) as (store, _):
        job = make(1)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store._archive, "add", full)
        with pytest.raises(StorageError, match="No space left"):
            await store.add(job, spec_of(b"abc"))
        assert await store.get(job.id) is None


async def test_a_job_that_is_deleted_while_it_is_read_has_its_end_all_the_same(tmp_path):
    """Or whoever watches it would wait for one for ever."""
    async with opened(tmp_path) as (store, _):
        job = make(1)
        await store.add(job, spec_of(b"abc"))
        await run(store, job, 2, None)
        # Nobody holds it any more, so that it is read from the disk.
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
