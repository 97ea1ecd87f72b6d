"""client.map: many jobs in order, some at a time, each with its own outcome."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gramophone
from gramophone import Options, aio, batches
from gramophone.options import JobState
from tests.harness import ServerProcess, png, run, style_request, wait_until

SMALL: Options = {"size": 32, "iterations": 2}
LONGER: Options = {"size": 32, "iterations": 5}
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2, "time_limit": 30}


def method(client: Any, name: str) -> Any:
    """Returns the method of the synchronous or of the wrapped asynchronous client."""
    return getattr(getattr(client, "_inner", client), name)


def called(client: Any, submit: Any) -> Any:
    """Returns a function that submits jobs, for `map` of the synchronous or of the wrapped asynchronous client."""
    if not hasattr(client, "_inner"):
        return submit

    async def asynchronous(*given: Any) -> Any:
        return (await asyncio.to_thread(submit, *given))._inner

    return asynchronous


@pytest.fixture(scope="module")
def small() -> Iterator[ServerProcess]:
    """A server with room for four waiting jobs; it has run one, so it knows how long jobs take."""
    with ServerProcess("--max-queued", "4") as server:
        run(server, style_request())
        yield server


def test_results_come_in_order_also_with_more_jobs_than_the_queue_takes(small, connect):
    """Of twelve jobs, nine may be submitted at once, and the server refuses some of them at first."""
    client = connect(small.address)
    refused: list[gramophone.OverloadedError] = []

    def submit(picture: bytes) -> Any:
        try:
            return client.style(picture, **LONGER)
        except gramophone.OverloadedError as error:
            refused.append(error)
            raise

    outcomes = list(client.map(called(client, submit), itertools.repeat(png(), 12), at_once=9))
    assert [outcome.number for outcome in outcomes] == list(range(12))
    assert all(outcome.result().iterations == 5 for outcome in outcomes)
    assert len({outcome.job_id for outcome in outcomes}) == 12
    assert refused and all(error.retry_after for error in refused)


def test_the_next_submission_waits_as_long_as_the_server_asks(flaky, connect):
    client = connect(flaky.address)
    times: list[float] = []

    def submit(picture: bytes) -> Any:
        times.append(time.monotonic())
        if len(times) < 3:
            raise gramophone.OverloadedError("full", 0.4)
        return client.style(picture)

    (outcome,) = client.map(called(client, submit), [b"a"])
    assert outcome.error is None
    assert all(later - earlier >= 0.4 for earlier, later in itertools.pairwise(times))


def test_a_job_that_the_server_never_accepts_has_an_error(flaky, connect, monkeypatch):
    client = connect(flaky.address)
    monkeypatch.setattr(batches, "OVERLOAD_RETRY", 0.5)

    def submit(picture: bytes) -> Any:
        if picture == b"never":
            raise gramophone.OverloadedError("full", 0.2)
        return client.style(picture)

    outcomes = list(client.map(called(client, submit), [b"a", b"never", b"b"]))
    assert [type(outcome.error) for outcome in outcomes] == [type(None), gramophone.OverloadedError, type(None)]


def test_outcomes_come_while_a_submission_waits_for_room(server, connect):
    client = connect(server.address)
    open_ = threading.Event()

    def submit(number: int) -> Any:
        if number == 2 and not open_.is_set():
            raise gramophone.OverloadedError("full", 0.1)
        return client.style(png(), **SMALL)

    outcomes = iter(client.map(called(client, submit), range(3)))
    assert [next(outcomes).number, next(outcomes).number] == [0, 1]
    open_.set()
    assert next(outcomes).result().iterations == 2


@pytest.mark.parametrize("in_order", [True, False])
def test_without_order_outcomes_come_as_jobs_end(server, connect, in_order):
    """The first job has the lowest priority, and the server starts none before all three are submitted."""
    client = connect(server.address)
    running = client.style(png(), **ENDLESS)

    def submit(number: int) -> Any:
        job = client.style(png(seed=number), **SMALL, priority=number - 2)
        if number == 2:
            running.cancel()
        return job

    outcomes = client.map(called(client, submit), range(3), in_order=in_order, at_once=3)
    assert [outcome.number for outcome in outcomes] == ([0, 1, 2] if in_order else [2, 1, 0])


def test_at_once_bounds_the_number_of_jobs_that_have_not_ended(server, connect):
    client = connect(server.address)
    jobs: list[Any] = []
    running: list[int] = []

    def submit(picture: bytes) -> Any:
        running.append(sum(job.info().state in ("queued", "running") for job in jobs))
        jobs.append(client.style(picture, **SMALL))
        return jobs[-1]

    outcomes = client.map(called(client, submit), itertools.repeat(png(), 8), at_once=3)
    assert all(outcome.result() for outcome in outcomes)
    assert max(running) == 2


def test_an_endless_iterable_is_read_only_as_far_as_needed(flaky, connect):
    """At any time at most three jobs run; when a further one is submitted, at most two outcomes wait."""
    client = connect(flaky.address)
    outcomes = client.map(method(client, "style"), itertools.repeat(b"picture"), at_once=3)
    for count in range(1, 5):
        next(iter(outcomes))
        assert len(flaky.jobs()) <= count + 5


@pytest.mark.parametrize("in_order", [True, False])
def test_no_more_than_at_once_jobs_run_and_no_more_outcomes_wait(in_order):
    """Job 0 ends last; in order, the others' outcomes wait for it."""
    batch, submitted = batches.Batch(zip(itertools.count()), 4, in_order), set()
    for _ in range(50):
        while (due := batch.due()) is not None:
            batch.take(batches.Accepted(due[0], object()))
            submitted.add(due[0])
            assert len(batch.jobs) <= 4
        if not batch.jobs or list(batch.jobs) == [0]:
            break
        batch.take(gramophone.Outcome(max(batch.jobs), "id", None, None))
        batch.ready()
    assert (len(batch.jobs), len(submitted)) == ((1, 7) if in_order else (3, 53))


def test_pictures_with_one_style_are_transfers(server, connect):
    client = connect(server.address)
    outcomes = client.map([png(40, 32, seed=1), png(32, 40, seed=2)], style=png(), **SMALL)
    assert [outcome.result().image.size for outcome in outcomes] == [(32, 26), (26, 32)]


def test_map_retries_submissions_to_an_overloaded_server(flaky, connect):
    client = connect(flaky.address, retry_for=0.5)
    flaky.script(*["ReconstructStyle abort RESOURCE_EXHAUSTED"] * 3)
    assert [outcome.error for outcome in client.map(method(client, "style"), [b"a", b"b"])] == [None, None]
    flaky.script("ReconstructStyle abort RESOURCE_EXHAUSTED")
    # Other calls do not retry by themselves.
    with pytest.raises(gramophone.OverloadedError, match=r"retry_overload=True.*client\.map"):
        client.style(b"picture")


def test_leaving_the_loop_cancels_the_jobs_under_way(server):
    with gramophone.Client(server.address) as client:
        first = client.style(png(), **SMALL)
        first.result()
        for outcome in client.map(lambda n: client.style(png(), **(ENDLESS if n else SMALL)), range(4), at_once=3):
            assert outcome.number == 0
            break
        began = time.monotonic()
        wait_until(lambda: not list(client.jobs(states=["queued", "running"])), "the jobs to end", timeout=10)
        assert time.monotonic() - began < 10


def test_leaving_during_a_submission_cancels_its_job(server):
    """The caller leaves the loop while a job is being submitted."""
    entered = threading.Event()
    with gramophone.Client(server.address) as client:

        def submit(number: int) -> gramophone.Job:
            if number == 2:
                entered.set()
                time.sleep(0.5)
            return client.style(png(seed=number), **(ENDLESS if number else SMALL))

        outcomes = client.map(submit, range(9), at_once=3)
        assert next(iter(outcomes)).number == 0
        next_one = threading.Thread(target=lambda: next(iter(outcomes)), daemon=True)
        if not entered.is_set():
            next_one.start()
            assert entered.wait(10)
        outcomes.close()  # type: ignore[attr-defined]
        wait_until(lambda: not list(client.jobs(states=["queued", "running"])), "the jobs to end", timeout=10)


async def test_canceling_the_task_of_a_loop_cancels_its_jobs(server):
    with gramophone.Client(server.address) as watcher:

        def wait_for(count: int) -> None:
            states: list[JobState] = ["queued", "running"]
            wait_until(lambda: len(list(watcher.jobs(states=states))) == count, f"{count} jobs to be under way")

        async def loop() -> None:
            async with aio.Client(server.address) as client:
                async for _ in client.map(client.style, [png(seed=n) for n in range(5)], at_once=3, **ENDLESS):
                    raise AssertionError("the jobs do not end by themselves")

        task = asyncio.create_task(loop())
        await asyncio.to_thread(wait_for, 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_for, 0)


def test_wrong_arguments_are_errors_that_say_what_to_write(connect, flaky):
    client = connect(flaky.address)
    style = method(client, "style")
    for wrong, error, words in (
        (lambda: client.map(style), TypeError, "at least one list"),
        (lambda: client.map(style, "one.png"), TypeError, r"itertools\.repeat\('one\.png'\)"),
        (lambda: client.map([b"a"]), TypeError, r"style=\.\.\."),
        (lambda: client.map([b"a"], [b"b"]), TypeError, r"client\.map\(client\.transfer, photos, styles\)"),
        (lambda: client.map("one.png", style=b"a"), TypeError, "lists of arguments"),
        (lambda: client.map(Path("one.png"), style=b"a"), TypeError, r"client\.map\(\[picture\], style"),
        (lambda: client.map(np.zeros((4, 4, 3)), style=b"a"), TypeError, r"client\.map\(\[picture\], style"),
        (lambda: client.map(style, [b"a"], at_once=0), ValueError, "at_once must be at least 1, not 0"),
    ):
        with pytest.raises(error, match=words):
            wrong()
    (outcome,) = client.map(style, [b"a"], sise=3)
    assert "did you mean size?" in str(outcome.error)
