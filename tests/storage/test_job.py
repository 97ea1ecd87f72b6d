"""A job's history: bounded, ordered, and with all states; and what watchers see of it."""

import asyncio

from gramophone_server.messages.events import EncodedPicture, Failure, Progress, State
from gramophone_server.storage.job import Job

PREVIEW = EncodedPicture(b"preview", "jpeg", 1, 1)


def progress(iteration: int, preview: EncodedPicture | None = None) -> Progress:
    return Progress(iteration, 100, 1.0, (), 1.0, 0.0, 0.0, preview)


def make() -> Job:
    job = Job("id", None)  # type: ignore[arg-type] # the history does not use the spec
    job.queue()
    return job


def end(job: Job, outcome: Failure | None = None) -> None:
    job.end(job.ending(outcome))


def iterations(job: Job, after: int = 0) -> list[int]:
    """The iterations of the progress events in the history."""
    return [e.detail.iteration for e in job.history(after) if isinstance(e.detail, Progress)]


async def test_the_number_of_progress_events_in_memory_is_bounded():
    job = make()
    job.start()
    for i in range(1, 10_001):
        job.report(progress(i, PREVIEW))
    held = iterations(job)
    assert held == list(range(10_001 - len(held), 10_001))
    assert len(held) <= 256
    assert sum(e.detail.preview is not None for e in job.history() if isinstance(e.detail, Progress)) == 1
    assert [e.state for e in job.history()][:2] == [State.QUEUED, State.RUNNING]
    assert job.history()[-1].sequence == 10_002


async def test_holds_all_after_says_whether_all_missed_events_are_in_memory():
    job = make()
    job.start()
    for i in range(1, 201):
        job.report(progress(i))
    assert job.holds_all_after(0)
    for i in range(201, 401):
        job.report(progress(i))
    assert not job.holds_all_after(0)
    first = job.history()[2].sequence
    assert job.holds_all_after(first - 1)
    assert not job.holds_all_after(first - 2)


async def test_only_the_latest_preview_is_kept():
    job = make()
    job.start()
    job.report(progress(1, PREVIEW))
    job.report(progress(2, PREVIEW))
    job.report(progress(3))
    assert iterations(job) == [1, 2, 3]
    previews = [e.detail.preview for e in job.history() if isinstance(e.detail, Progress)]
    assert previews == [None, PREVIEW, None]


async def test_the_first_end_of_a_job_is_final():
    job = make()
    job.start()
    end(job)
    end(job, Failure("INTERNAL", "too late"))
    assert job.report(progress(1)) is None
    assert job.state is State.CANCELLED
    assert job.outcome is None
    assert iterations(job) == []


async def test_a_requeued_job_continues_its_sequence_and_keeps_its_first_start():
    job = make()
    job.start()
    began = job.start_time
    job.queue()
    job.start()
    assert [e.state for e in job.history()] == [State.QUEUED, State.RUNNING, State.QUEUED, State.RUNNING]
    assert [e.sequence for e in job.history()] == [1, 2, 3, 4]
    assert (job.attempts, job.start_time) == (2, began)


async def test_watching_ends_without_a_final_event_when_the_server_stops():
    job = make()
    watcher = job.watch()
    assert (await anext(watcher)).state is State.QUEUED
    waiting = asyncio.create_task(anext(watcher, None))
    await asyncio.sleep(0)
    job.close()
    assert await asyncio.wait_for(waiting, 5) is None


async def test_a_fast_watcher_sees_all_events():
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
    end(job, Failure("INTERNAL", "why"))
    await asyncio.wait_for(watcher, 5)
    assert [e.detail.iteration for e in seen if isinstance(e.detail, Progress)] == [1, 2, 3, 4, 5]
    assert [e.sequence for e in seen] == list(range(1, 9))
    assert seen[-1].state is State.FAILED


async def test_a_slow_watcher_skips_to_the_latest_progress():
    job = make()
    job.start()
    watcher = job.watch()
    assert (await anext(watcher)).state is State.QUEUED
    for i in range(1, 1001):
        job.report(progress(i))
    end(job)
    rest = [event async for event in watcher]
    assert [e.state for e in rest] == [State.RUNNING, State.RUNNING, State.CANCELLED]
    assert rest[1].detail == progress(1000)


async def test_all_watchers_end_with_the_job():
    job = make()

    async def last() -> State:
        return [event.state async for event in job.watch()][-1]

    watchers = [asyncio.create_task(last()) for _ in range(200)]
    await asyncio.sleep(0)
    job.start()
    end(job)
    assert set(await asyncio.wait_for(asyncio.gather(*watchers), 5)) == {State.CANCELLED}
