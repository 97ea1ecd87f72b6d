"""Jobs that one front runs, as clients of another front see them."""

import asyncio
import time

import pytest

from gramophone_server.messages.events import EncodedPicture, Progress, State
from gramophone_server.storage.query import Query
from tests.storage.stores import events, progress, result, stored_job

from .fronts import event_with, fronts, start, submit, take


@pytest.fixture
def url(shared_postgres) -> str:
    return shared_postgres.make()


class Ear:
    """Keeps the news of a store."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    def work(self) -> None:
        """Does nothing."""

    def canceled(self, job_id: str) -> None:
        self.heard.put_nowait(job_id)

    def lost(self, job: object) -> None:
        self.heard.put_nowait("lost")


def picture(number: int) -> EncodedPicture:
    return EncodedPicture(f"preview {number}".encode(), "png", 1, 1)


async def test_a_watcher_at_another_front_sees_states_progress_previews_and_the_result(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        job = await submit(one)
        watched = await stored_job(other, job.id)
        assert watched is not job
        # Streams replay the past first, which asks the other front for previews.
        assert [event.state for event in await events(other, watched)] == [State.QUEUED]
        await start(one)
        await event_with(watched, lambda event: event.state is State.RUNNING)
        async with asyncio.timeout(10):
            for number in range(1, 1000):
                one.record(job, job.report(progress(number, picture(number))))
                await asyncio.sleep(0.05)
                if watched.preview is not None:
                    break
        assert watched.preview is not None
        assert watched.preview.data.startswith(b"preview ")
        found = await event_with(watched, lambda e: isinstance(e.detail, Progress) and e.detail.preview is not None)
        assert found.sequence <= job.sequence
        await one.end(job, result(b"result"))
        last = await event_with(watched, lambda event: event.state.final)
        assert last.detail.image.data == b"result"
        assert watched.end_time == job.end_time
        stored = await events(other, watched)
        assert [event.sequence for event in stored] == sorted({event.sequence for event in stored})
        assert stored[-1].state is State.SUCCEEDED


async def test_no_preview_is_stored_that_nobody_watches_elsewhere(tmp_path, url):
    async with fronts(url, tmp_path) as (one, _):
        await submit(one)
        job = await start(one)
        one.record(job, job.report(progress(1, picture(1))))
        await asyncio.sleep(1.0)
        with one._engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM previews").scalar() == 0


async def test_news_arrives_soon(tmp_path, url):
    """The median of five: other work may delay one."""
    async with fronts(url, tmp_path) as (one, other):
        delays = []
        for _ in range(5):
            job = await submit(one)
            watched = await stored_job(other, job.id)
            begun = time.monotonic()
            await start(one)
            await event_with(watched, lambda event: event.state is State.RUNNING)
            delays.append(time.monotonic() - begun)
            await one.end(job, result())
        assert sorted(delays)[2] < 0.3


async def test_a_waiting_job_is_canceled_at_any_front(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        job = await submit(one)
        assert await other.cancel_elsewhere(await stored_job(other, job.id))
        assert (await event_with(job, lambda event: event.state.final)).state is State.CANCELLED
        assert await take(one) is None
        assert [found.state for found in await one.find(Query(9))] == [State.CANCELLED]


async def test_the_front_of_a_running_job_is_told_that_it_is_canceled(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        one.listen(ear := Ear())
        await submit(one)
        job = await start(one)
        await other.cancel_elsewhere(await stored_job(other, job.id))
        async with asyncio.timeout(10):
            assert await ear.heard.get() == job.id
        # It was canceled before its front gave it back: it does not wait again.
        await one.give_back(job)
        assert (await event_with(job, lambda event: event.state.final)).state is State.CANCELLED


async def test_files_that_another_front_writes_are_not_removed(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        same = [b"pixels %d" % number for number in range(4)]

        async def churn() -> None:
            """Adds and deletes jobs with the same pictures, so that their files become unused again and again."""
            for number in range(15):
                job = await submit(one, same[number % 4])
                held = await take(one)
                if held is not None:
                    await one.end(held, result(b"result"))
                    await one.delete(held)
                del job

        async def keep() -> list[str]:
            return [(await submit(other, same[number % 4], owner="other")).id for number in range(15)]

        _, kept = await asyncio.gather(churn(), keep())
        for job_id in kept:
            if (job := await other.get(job_id)) is not None:
                assert all(other.files.is_good(part.blob) for part in job.spec.pictures())
