"""A job's history: bounded, in order, and never without its states."""

import asyncio

from gramophone_server.jobs.events import EncodedPicture, Failure, Progress, State
from gramophone_server.jobs.job import Job

PREVIEW = EncodedPicture(b"preview", "jpeg", 1, 1)


def progress(iteration: int, preview: EncodedPicture | None = None) -> Progress:
    return Progress(iteration, 100, 1.0, (), 1.0, 0.0, 0.0, preview)


def make() -> Job:
    return Job("id", None)  # type: ignore[arg-type] - the history does not look at the spec


def iterations(job: Job, after: int = 0) -> list[int]:
    return [e.detail.iteration for e in job.events(after) if isinstance(e.detail, Progress)]


async def test_only_the_latest_progress_is_kept():
    job = make()
    job.start()
    for i in range(1, 10_001):
        job.report(progress(i))
    assert iterations(job) == [10_000]
    assert [e.state for e in job.events()] == [State.QUEUED, State.RUNNING, State.RUNNING]
    assert job.events()[-1].sequence == 10_002


async def test_the_latest_preview_is_kept_beside_newer_progress():
    job = make()
    job.start()
    job.report(progress(1, PREVIEW))
    job.report(progress(2, PREVIEW))
    job.report(progress(3))
    assert iterations(job) == [2, 3]
    assert iterations(job, after=4) == [3]


async def test_the_first_ending_stays():
    job = make()
    job.start()
    job.end(None)
    job.end(Failure("INTERNAL", "too late"))
    job.report(progress(1))
    assert job.state is State.CANCELLED
    assert job.outcome is None
    assert iterations(job) == []


async def test_a_watcher_that_keeps_up_sees_everything():
    job = make()
    seen = []

    async def watch() -> None:
        async for event in job.watch():
            seen.append(event)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    job.start()
    for i in range(1, 6):
        job.report(progress(i))
        await asyncio.sleep(0.001)
    job.end(Failure("INTERNAL", "why"))
    await asyncio.wait_for(watcher, 5)
    assert [e.detail.iteration for e in seen if isinstance(e.detail, Progress)] == [1, 2, 3, 4, 5]
    assert [e.sequence for e in seen] == list(range(1, 9))
    assert seen[-1].state is State.FAILED


async def test_a_slow_watcher_goes_from_the_old_straight_to_the_latest():
    job = make()
    job.start()
    watcher = job.watch()
    assert (await anext(watcher)).state is State.QUEUED
    for i in range(1, 1001):
        job.report(progress(i))
    job.end(None)
    rest = [event async for event in watcher]
    assert [e.state for e in rest] == [State.RUNNING, State.RUNNING, State.CANCELLED]
    assert rest[1].detail == progress(1000)


async def test_many_watchers_end_with_the_job():
    job = make()

    async def last() -> State:
        return [event.state async for event in job.watch()][-1]

    watchers = [asyncio.create_task(last()) for _ in range(200)]
    await asyncio.sleep(0)
    job.start()
    job.end(None)
    assert set(await asyncio.wait_for(asyncio.gather(*watchers), 5)) == {State.CANCELLED}
