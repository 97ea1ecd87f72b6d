"""Several readers of one job: threads, tasks, readers that stop early and readers that start late."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import gramophone
from gramophone import Options, aio
from tests.harness import png
from tests.sdk.flaky_server import ITERATIONS, FlakyServer

ALL = list(range(1, ITERATIONS + 1))
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2, "time_limit": 30}


@pytest.fixture
def slow(tmp_path) -> Iterator[FlakyServer]:
    """A server whose jobs take about half a second."""
    with FlakyServer(tmp_path / "slow", pace=0.04) as server:
        yield server


def iterations(job: Any) -> list[int]:
    return [frame.iteration for frame in job]


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Starts all functions at the same time in threads; returns their results."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        gate.wait(20)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def is_complete(seen: list[int]) -> bool:
    """Whether a reader saw frames in order, without repetition, up to the last."""
    return seen == sorted(set(seen)) and seen[-1] == ITERATIONS


def test_one_reads_frames_and_another_waits_for_the_result(slow, connect):
    job = connect(slow.address).style(b"picture")
    seen, result, late = at_once([lambda: iterations(job), job.result, lambda: job.result(timeout=20)])
    assert is_complete(seen)
    assert result == late == job.result()
    assert job.state == "succeeded"


def test_eight_threads_read_each_of_eight_jobs(slow, connect):
    client = connect(slow.address)
    jobs = [client.style(b"picture") for _ in range(8)]
    for seen in at_once([partial(iterations, job) for _ in range(8) for job in jobs]):
        assert is_complete(seen)
    assert all(job.result() for job in jobs)


async def test_eight_tasks_read_each_of_eight_jobs(slow):
    async with aio.Client(slow.address) as client:
        jobs = await asyncio.gather(*(client.style(b"picture") for _ in range(8)))

        async def read(job: aio.Job) -> list[int]:
            return [frame.iteration async for frame in job]

        for seen in await asyncio.gather(*(read(job) for job in jobs for _ in range(8))):
            assert is_complete(seen)
        assert len({(await job.result()).data for job in jobs}) == 8


def test_eight_loops_with_eight_tasks_each_read_one_job(slow):
    """All tasks share one asynchronous client and one job."""
    client = aio.Client(slow.address)

    async def main() -> None:
        job = await client.style(b"picture")

        async def read() -> list[int]:
            return [frame.iteration async for frame in job]

        async def eight() -> list[list[int]]:
            return list(await asyncio.gather(*(read() for _ in range(8))))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.to_thread(asyncio.run, eight())) for _ in range(7)]
            mine = await eight()
        for seen in [*mine, *(seen for task in tasks for seen in task.result())]:
            assert is_complete(seen)
        await client.close()

    asyncio.run(main())


def test_a_single_reader_uses_the_stream_of_the_submission(flaky, connect):
    job = connect(flaky.address).style(b"picture")
    assert iterations(job) == ALL
    assert flaky.calls("WatchJob") == []


def test_an_ended_job_yields_its_frames_again(flaky, connect):
    client = connect(flaky.address)
    job = client.style(b"picture")
    result = job.result()
    assert iterations(job) == iterations(job) == ALL
    flaky.leave()
    client.close()
    assert iterations(job) == ALL
    assert job.result() == result


def test_an_ended_job_keeps_only_its_latest_preview(server, connect):
    job = connect(server.address).style(png(), size=32, iterations=20, report_every=5)
    list(job)
    frames = list(job)
    assert [bool(frame.preview_bytes) for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert frames[-1].preview.size == (32, 32)


def test_a_late_reader_sees_the_remaining_frames(slow, connect):
    job = connect(slow.address).style(b"picture")
    seen = []
    others = []
    with ThreadPoolExecutor(ITERATIONS) as pool:
        for frame in job:
            others.append(pool.submit(iterations, job))
            seen.append(frame.iteration)
    assert seen == ALL
    for begun, other in enumerate(others, 1):
        views = other.result()
        assert is_complete(views)
        # A reader that starts after the end sees all frames again.
        assert views[0] >= begun or views == ALL
    assert any(views != ALL for views in map(Future.result, others))


def test_a_reader_that_stops_early_does_not_disturb_others(slow, connect):
    job = connect(slow.address).style(b"picture")

    def first_iteration() -> int:
        for frame in job:
            return frame.iteration
        return 0

    *views, first, second = at_once(
        [lambda: iterations(job), lambda: iterations(job), first_iteration, first_iteration]
    )
    assert first and second
    assert all(is_complete(view) for view in views)


def test_ended_readers_leave_no_streams_behind(slow, connect):
    client = connect(slow.address)
    job = client.style(b"picture")
    readers = [iter(job) for _ in range(3)]
    for reader in readers:
        next(reader)
    del readers, reader
    gc.collect()
    assert is_complete(iterations(job))


def test_all_readers_raise_when_the_job_is_cancelled(server, connect):
    client = connect(server.address)
    job = client.style(png(), **ENDLESS)

    seen = threading.Event()

    def read() -> BaseException:
        try:
            for _ in job:
                seen.set()
        except gramophone.JobCancelledError as error:
            return error
        raise AssertionError("the job ended without JobCancelledError")

    def cancel() -> None:
        seen.wait(30)
        job.cancel()

    # Each reader raises its own error object, with its own traceback.
    assert len({id(error) for error in at_once([read, read, read, cancel])[:3]}) == 3
    assert job.state == "cancelled"


def test_each_reader_resumes_a_broken_stream(slow, connect):
    slow.script("ReconstructStyle end 5", "WatchJob end 3", "WatchJob end 2")
    job = connect(slow.address).style(b"picture")
    for seen in at_once([lambda: iterations(job)] * 4):
        assert is_complete(seen)


def test_all_readers_end_once_one_of_them_has_the_result(slow, connect):
    """The server dies after one reader has the result, while the other still reads."""
    client = connect(slow.address, retry_for=0)
    job = client.style(b"picture")
    reader = iter(job)
    assert next(reader).iteration == 1
    assert job.result(timeout=20)
    slow.leave()
    assert is_complete([1, *(frame.iteration for frame in reader)])


async def test_a_cancelled_task_does_not_disturb_other_readers(server):
    async with aio.Client(server.address) as client:
        job = await client.style(png(), **(ENDLESS | {"on_disconnect": "cancel"}))

        async def read() -> int:
            return len([frame async for frame in job])

        readers = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.sleep(0.3)
        # The first reader has the stream of the submission: its end would cancel the job.
        for reader in readers[:2]:
            reader.cancel()
        await asyncio.wait(readers[:2])
        assert all(reader.cancelled() for reader in readers[:2])
        async for _ in job:
            break
        frames = aiter(job)
        await anext(frames)
        await frames.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)
        assert (await job.info()).state in ("queued", "running")
        assert not readers[2].done()
        await job.cancel()
        with pytest.raises(gramophone.JobCancelledError):
            await readers[2]


async def test_closing_a_client_raises_an_error_in_tasks_that_read(server):
    """The tasks must not get a CancelledError, which they would mistake for their own cancellation."""
    client = aio.Client(server.address)
    job = await client.style(png(), **ENDLESS)
    id_ = job.id

    async def read() -> None:
        async for _ in job:
            pass

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.sleep(0.5)
    await client.close()
    for reader in readers:
        with pytest.raises(gramophone.UnavailableError, match="client was closed"):
            await reader
    async with aio.Client(server.address) as other:
        await (await other.job(id_)).cancel()


def test_closing_a_client_raises_an_error_in_threads_that_read(server):
    client = gramophone.Client(server.address)
    job = client.style(png(), **ENDLESS)

    def read() -> str:
        with pytest.raises(gramophone.UnavailableError) as caught:
            job.result()
        return str(caught.value)

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        time.sleep(0.5)
        client.close()
        assert [reader.result() for reader in readers] == [
            f"the call to the server at {server.address} was interrupted: this client was closed (Channel closed)"
        ] * 2
    with gramophone.Client(server.address) as other:
        other.job(job.id).cancel()


def test_the_state_never_goes_back(slow, connect):
    job = connect(slow.address).style(b"picture")
    order = {"queued": 0, "running": 1, "succeeded": 2}
    states: list[str] = []

    def watch() -> None:
        while job.state != "succeeded":
            states.append(job.state)
            time.sleep(0.001)

    at_once([watch, *[lambda: iterations(job)] * 4])
    ranks = [order[state] for state in states]
    assert ranks == sorted(ranks)
