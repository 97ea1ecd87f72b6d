"""Calls and streams to a server that dies, stops, hangs or is overloaded."""

import asyncio
import contextlib
import random
import threading
import time
from typing import Any

import grpc
import pytest

import gramophone
from gramophone import aio
from gramophone.channel import channel_options
from gramophone.retry import Attempts, RetryPolicy, StreamEndedError
from tests.harness import png
from tests.sdk.flaky_server import FIRST_PROGRESS, ITERATIONS, FlakyServer

ALL = list(range(1, ITERATIONS + 1))


@pytest.mark.parametrize(
    "script",
    [
        ["ReconstructStyle die 0"],
        ["ReconstructStyle die_done 0"],
        ["ReconstructStyle end 0"],
        ["ReconstructStyle die_done 0", "ReconstructStyle die 0", "ReconstructStyle abort UNAVAILABLE"],
        ["ReconstructStyle die 1"],
        ["ReconstructStyle die 2"],
        ["ReconstructStyle die 7"],
        ["ReconstructStyle end 7"],
        ["ReconstructStyle die 4", "WatchJob die 0", "WatchJob die 2", "WatchJob end 0", "WatchJob end 3"],
        ["ReconstructStyle die 12", "WatchJob abort CANCELLED"],
    ],
)
def test_a_retried_job_is_submitted_once_and_loses_no_frames(flaky, connect, script):
    client = connect(flaky.address)
    flaky.script(*script)
    job = client.style(b"picture")
    frames = list(job)
    assert [frame.iteration for frame in frames] == ALL
    assert job.result().data.endswith(job.id.encode())
    assert flaky.jobs() == [job.id]
    assert len({call.split()[2] for call in flaky.calls("ReconstructStyle")}) == 1
    assert flaky.starts == 1 + sum(" die" in line for line in script)


def test_a_broken_stream_resumes_after_its_last_event(flaky, connect):
    flaky.script("TransferStyle die 5", "WatchJob end 2")
    assert connect(flaky.address).transfer(b"content", b"style").result()
    assert flaky.calls("WatchJob") == ["5", "7"]


def test_a_job_opened_by_its_id_yields_all_its_frames(flaky, connect):
    client = connect(flaky.address)
    job_id = client.content(b"picture").id
    flaky.script("WatchJob die 6")
    assert [frame.iteration for frame in client.job(job_id)] == ALL


def test_submissions_with_the_same_request_id_return_the_same_job(flaky, connect):
    first = connect(flaky.address).style(b"picture", request_id="mine", priority=-4)
    again = connect(flaky.address).style(b"picture", request_id="mine", priority=-4)
    assert first.id == again.id == "job-mine"
    assert [call.split()[1:] for call in flaky.calls("ReconstructStyle")] == [["-4", "mine"]] * 2
    assert connect(flaky.address).style(b"picture").id != connect(flaky.address).style(b"picture").id


@pytest.mark.parametrize("fault", ["die 0", "abort UNAVAILABLE", "abort CANCELLED"])
def test_calls_that_fail_in_transport_are_retried(flaky, connect, fault):
    client = connect(flaky.address)
    job = client.style(b"picture")
    job.result()
    flaky.script(f"GetJob {fault}", f"ListJobs {fault}", f"CancelJob {fault}")
    info = job.info()
    assert (info.owner, info.priority, info.attempts) == ("ann", 3, 2)
    assert [listed.id for listed in client.jobs()] == [job.id]
    job.cancel()
    for method in ("GetJob", "ListJobs", "CancelJob"):
        assert len(flaky.calls(method)) == 2


def test_a_retried_delete_succeeds_once(flaky, connect):
    client = connect(flaky.address)
    job = client.style(b"picture")
    job.result()
    flaky.script("DeleteJob die_done 0")
    job.delete()
    assert flaky.jobs() == []
    assert len(flaky.calls("DeleteJob")) == 2
    with pytest.raises(gramophone.NotFoundError):
        job.delete()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("INTERNAL", gramophone.ServerError),
        ("FAILED_PRECONDITION", gramophone.ServerError),
        ("RESOURCE_EXHAUSTED", gramophone.OverloadedError),
        ("INVALID_ARGUMENT", gramophone.InvalidRequestError),
    ],
)
def test_other_errors_are_not_retried(flaky, connect, code, error):
    client = connect(flaky.address)
    flaky.script(f"ReconstructStyle abort {code}", f"ListJobs abort {code}")
    with pytest.raises(error):
        client.style(b"picture")
    with pytest.raises(error):
        list(client.jobs())
    assert len(flaky.calls("ReconstructStyle")) == len(flaky.calls("ListJobs")) == 1


def test_retry_overload_waits_for_the_servers_retry_delay(flaky, connect):
    client = connect(flaky.address, retry_overload=True)
    flaky.script(*["ReconstructStyle abort RESOURCE_EXHAUSTED"] * 2)
    began = time.monotonic()
    client.style(b"picture")
    assert time.monotonic() - began >= 0.8
    flaky.script(*["ListJobs abort RESOURCE_EXHAUSTED"] * 9)
    with pytest.raises(gramophone.OverloadedError) as caught:
        list(connect(flaky.address, retry_overload=True, retry_for=1).jobs())
    assert caught.value.retry_after == pytest.approx(0.4)


@pytest.mark.parametrize(("retry_for", "timeout"), [(0, 60), (0.5, 60), (60, 0.5)])
def test_retries_end_after_retry_for_or_the_timeout(flaky, connect, retry_for, timeout):
    client = connect(flaky.address, retry_for=retry_for, timeout=timeout)
    job = client.style(b"picture")
    flaky.leave()
    limit = min(retry_for, timeout)
    calls = [job.info, lambda: list(client.jobs())]
    if retry_for < 60:  # streams have no timeout
        calls += [lambda: client.style(b"picture"), lambda: client.upload(b"picture")]
    for call in calls:
        began = time.monotonic()
        with pytest.raises(gramophone.UnavailableError, match=f"{flaky.address} cannot be reached"):
            call()
        assert limit <= time.monotonic() - began < limit + 1


def test_a_call_to_a_server_that_hangs_ends_at_its_timeout(flaky, connect):
    client = connect(flaky.address, timeout=0.5)
    job = client.style(b"picture")
    flaky.script("GetJob hang 3")
    with pytest.raises(gramophone.DeadlineError, match="did not respond in time"):
        job.info()


def test_a_retry_that_times_out_reports_the_error_before_it(flaky, connect):
    client = connect(flaky.address, timeout=0.5)
    job = client.style(b"picture")
    flaky.script("GetJob abort UNAVAILABLE", "GetJob hang 3")
    with pytest.raises(gramophone.UnavailableError):
        job.info()


def test_result_ends_at_its_timeout_with_and_without_a_server(flaky, connect):
    client = connect(flaky.address)
    flaky.script(*["WatchJob hang 3"] * 2)
    job = client.style(b"picture")
    for _ in range(2):
        with pytest.raises(gramophone.DeadlineError, match="it continues"):
            job.result(timeout=0.5)
    flaky.script()
    assert job.result(timeout=30)
    job = client.style(b"picture")
    flaky.leave()
    began = time.monotonic()
    with pytest.raises(gramophone.DeadlineError, match="it continues"):
        job.result(timeout=0.5)
    assert time.monotonic() - began < 1.5


async def test_result_can_be_awaited_again_after_a_cancelled_wait(tmp_path):
    with FlakyServer(tmp_path / "flaky", pace=0.1) as flaky:
        async with aio.Client(flaky.address) as client:
            job = await client.style(b"picture")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(job.result(), 0.4)
            assert await job.result()


@pytest.mark.slow
def test_clients_see_no_errors_while_their_server_is_killed_ten_times(tmp_path):
    """Six threads run jobs with both clients while their server is killed at random moments."""
    errors: list[BaseException] = []
    painted: list[str] = []
    over = threading.Event()

    def check(job: Any, iterations: list[int], data: bytes) -> None:
        assert iterations == ALL
        assert data.endswith(job.id.encode())
        painted.append(job.id)

    def synchronous(address: str) -> None:
        with gramophone.Client(address) as client:
            while not over.is_set():
                job = client.style(b"picture")
                check(job, [frame.iteration for frame in job], job.result().data)
                assert job.info().id == job.id

    async def asynchronous(address: str) -> None:
        async with aio.Client(address) as client:
            while not over.is_set():
                job = await client.style(b"picture")
                check(job, [frame.iteration async for frame in job], (await job.result()).data)
                assert (await job.info()).id == job.id

    def run(work: Any, address: str) -> None:
        try:
            work(address)
        except BaseException as error:
            errors.append(error)

    with FlakyServer(tmp_path / "flaky", pace=0.02) as flaky:
        works = [synchronous] * 3 + [lambda address: asyncio.run(asynchronous(address))] * 3
        threads = [threading.Thread(target=run, args=(work, flaky.address)) for work in works]
        for thread in threads:
            thread.start()
        for kills in range(1, 11):
            time.sleep(random.uniform(0, 0.8))
            flaky.kill()
            while flaky.starts <= kills:
                time.sleep(0.01)
        over.set()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert flaky.starts == 11
        assert sorted(painted) == sorted(flaky.jobs())


def test_a_timeout_of_result_does_not_cancel_a_job_that_ends_with_its_client(server):
    with gramophone.Client(server.address) as client:
        job = client.style(png(), size=32, iterations=1_000_000, report_every=2, on_disconnect="cancel")
        for _ in range(2):
            with pytest.raises(gramophone.DeadlineError):
                job.result(timeout=0.3)
        assert job.info().state in ("queued", "running")
        job.cancel()


def test_channel_options_override_the_defaults(server):
    options = channel_options([("grpc.keepalive_time_ms", 30_000), ("grpc.enable_retries", 0)])
    assert dict(options)["grpc.keepalive_time_ms"] == 30_000
    assert dict(options)["grpc.enable_retries"] == 0
    assert dict(options)["grpc.max_reconnect_backoff_ms"] == 2_000
    with gramophone.Client(server.address, options=[("grpc.max_metadata_size", 99)]) as one:
        assert one.models()


class Clock:
    """Replaces time.monotonic by a clock that only moves when told, and random pauses by the longest ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(random, "uniform", lambda low, high: high)

    def fail(self, attempts: Attempts, after: float = 0.0) -> float:
        self.now += after
        pause = attempts.pause(StreamEndedError())
        self.now += pause
        return pause

    def fail_for_good(self, attempts: Attempts, after: float = 0.0) -> list[float]:
        """Fails until there are no more retries; returns the pauses in seconds."""
        pauses = []
        with contextlib.suppress(gramophone.UnavailableError):
            for _ in range(1000):
                pauses.append(self.fail(attempts, after))
        assert len(pauses) < 1000
        return pauses


def test_pauses_double_up_to_2_s_and_sum_up_to_retry_for(monkeypatch):
    clock = Clock(monkeypatch)
    attempts = Attempts(RetryPolicy(retry_for=20), "there")
    pauses = clock.fail_for_good(attempts)
    assert pauses[:7] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    assert max(pauses) <= 2
    assert sum(pauses) == pytest.approx(20)


def test_retry_for_restarts_after_progress_and_after_a_long_connection(monkeypatch):
    clock = Clock(monkeypatch)
    attempts = Attempts(RetryPolicy(retry_for=2), "there")
    for _ in range(20):
        clock.fail(attempts)
        clock.fail(attempts)
        attempts.progress()
    for _ in range(20):
        assert clock.fail(attempts, after=11) == pytest.approx(0.1)
    began = clock.now
    clock.fail_for_good(attempts, after=1)
    assert clock.now - began < 5


def test_there_are_no_retries_after_the_deadline(monkeypatch):
    clock = Clock(monkeypatch)
    attempts = Attempts(RetryPolicy(), "there", deadline=clock.now + 1)
    clock.fail_for_good(attempts)
    assert clock.now == pytest.approx(1001)
    assert attempts.left == 0


def test_calls_that_the_client_cancels_are_not_retried():
    class Closed(grpc.RpcError):
        code = staticmethod(lambda: grpc.StatusCode.CANCELLED)
        details = staticmethod(lambda: "Channel closed!")
        trailing_metadata = staticmethod(tuple)

    with pytest.raises(gramophone.UnavailableError, match="Channel closed"):
        Attempts(RetryPolicy(), "there").pause(Closed())


def test_a_second_reader_continues_after_the_frames_already_read(flaky, connect):
    flaky.script(f"ReconstructStyle end {FIRST_PROGRESS}")
    job = connect(flaky.address).style(b"picture")
    assert next(iter(job)).iteration == 1
    assert [frame.iteration for frame in job] == ALL[1:]
