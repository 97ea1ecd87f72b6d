"""Outages of the storage: no job is lost, and calls are answered at once during an outage."""

import concurrent.futures
import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gramophone
from gramophone.v1 import job_pb2, job_service_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, events, wait_until
from tests.postgres import Postgres

from . import outages
from .bystander import WATCHED, Bystander
from .checks import check_error, detail_of
from .outages import Outage
from .recovery import FREQUENT_CHECKPOINTS, in_background, request, undisturbed

pytestmark = pytest.mark.slow

FINAL = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
# The first job ends during the outage.
ITERATIONS = 300
# Longest duration of a call in seconds: calls do not wait for the storage. Test machines may be slow.
AT_ONCE = 1.5


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    """The pictures of the jobs with seeds 0 to 3, made without an outage."""
    return undisturbed([request(seed, iterations=ITERATIONS) for seed in range(4)])


@pytest.fixture(
    params=["a lock", "blobs moved", "blobs a file", "blobs empty", "data moved", "data unmounted", "a full disk"]
)
def folder_outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[list[str], Outage]]:
    """(arguments of a server, outage of its data folder)."""
    with contextlib.ExitStack() as stack:
        if request.param in ("data unmounted", "a full disk"):
            data = stack.enter_context(outages.small_disk(tmp_path / "disk"))
        else:
            data = tmp_path / "data"
        known: dict[str, Outage] = {
            "a lock": lambda: outages.lock_held(data / "jobs.sqlite"),
            "blobs moved": lambda: outages.moved_away(data / "blobs"),
            "blobs a file": lambda: outages.replaced_by_a_file(data / "blobs"),
            "blobs empty": lambda: outages.replaced_by_an_empty_folder(data / "blobs"),
            "data moved": lambda: outages.moved_away(data),
            "data unmounted": lambda: outages.unmounted(data),
            "a full disk": lambda: outages.full(data),
        }
        yield ["--data", str(data)], known[request.param]


@pytest.fixture(params=["stopped", "crashed", "frozen", "read-only", "a table locked"])
def postgres_outage(request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path) -> tuple[list[str], Outage]:
    """(arguments of a server, outage of its PostgreSQL)."""
    known: dict[str, Outage] = {
        "stopped": lambda: outages.stopped(postgres, "fast"),
        "crashed": lambda: outages.stopped(postgres, "immediate"),
        "frozen": lambda: outages.frozen(postgres),
        "read-only": lambda: outages.read_only(postgres),
        "a table locked": lambda: outages.table_locked(postgres),
    }
    return ["--data", str(tmp_path), "--database", postgres.url], known[request.param]


def test_jobs_survive_an_outage_of_their_folder(folder_outage, expected, long):
    args, outage = folder_outage
    check_outage(args, outage, expected, seconds=45 if long else 5)


def test_jobs_survive_an_outage_of_postgresql(postgres_outage, expected, long):
    args, outage = postgres_outage
    check_outage(args, outage, expected, seconds=45 if long else 5)


def test_clients_do_not_notice_killed_database_connections(postgres, expected, tmp_path):
    """No call is refused: the server reconnects at once."""
    args = ["--data", str(tmp_path), "--database", postgres.url]
    assert check_outage(args, lambda: outages.connections_killed(postgres), expected, brief=True) is None


def test_clients_see_no_errors_during_outages_of_every_kind(postgres, long, tmp_path):
    """Four clients run one job after the other through the SDK."""
    times, count = (10, 20) if long else (1, 4)
    requests = [request(seed, iterations=600 if long else 300) for seed in range(count)]
    expected = undisturbed(requests)
    with outages.small_disk(tmp_path / "disk", "32m") as data:
        kinds: list[Outage] = [
            lambda: outages.stopped(postgres, "fast"),
            lambda: outages.moved_away(data / "blobs"),
            lambda: outages.full(data),
        ]
        with ServerProcess("--data", str(data), "--database", postgres.url, *FREQUENT_CHECKPOINTS) as server:
            ended = False

            def disturb() -> int:
                rng, done = random.Random(3), 0
                for outage in times * kinds:
                    time.sleep(rng.uniform(0.5, 2))
                    if ended:
                        break
                    with outage():
                        time.sleep(rng.uniform(1, 3))
                    done += 1
                return done

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                disturbing = pool.submit(disturb)
                with concurrent.futures.ThreadPoolExecutor(4) as clients:
                    made = list(clients.map(lambda one: paint_through_sdk(server, one), requests))
                ended = True
                print(f"{disturbing.result()} outages of {3 * times} while {count} jobs were painted")
            assert made == expected
            assert {job.state for job in jobs_of(server)} == {job_pb2.JOB_STATE_SUCCEEDED}
            assert len(jobs_of(server)) == count
            assert "Traceback" not in server.read_log(), server.read_log()


def check_outage(
    args: list[str], outage: Outage, expected: list[bytes], *, seconds: float = 5, brief: bool = False
) -> grpc.StatusCode | None:
    """Checks that jobs which wait, run, end, are submitted or are canceled during an outage end as they should.

    Returns:
        The status code of a submission during the outage; None if it was accepted.
    """
    with ServerProcess(*args, *FREQUENT_CHECKPOINTS) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        streams, ids = [], []
        for seed in range(4):
            streams.append(events(server.style.ReconstructStyle(request(seed, iterations=ITERATIONS))))
            ids.append(next(streams[-1]).job_id)
        next(event for event in streams[0] if event.HasField("progress"))
        watched = [pool.submit(last_of, server, stream) for stream in streams]
        with outage():
            begun = time.monotonic()
            serving = is_serving(server)
            canceled = timed(server.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=ids[2])).job
            assert canceled.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_CANCELLED)
            refused = submission_refusal(server)
            through_sdk = pool.submit(paint_through_sdk, server, request(3, iterations=ITERATIONS))
            while time.monotonic() - begun < seconds:
                states = [state_of(server, job_id) for job_id in ids]
                serving = is_serving(server)
                time.sleep(0.05)
            if refused is grpc.StatusCode.UNAVAILABLE and not brief:
                assert not serving
                assert why_not_serving(server)
                # Jobs whose end cannot be written, and jobs that wait, have not ended.
                assert states[1] not in FINAL and states[3] not in FINAL, states
        wait_until(lambda: is_serving(server), "the server to be healthy", 10)
        ends = [one.result(60) for one in watched]
        assert [end.state for end in ends] == [
            job_pb2.JOB_STATE_CANCELLED if i == 2 else job_pb2.JOB_STATE_SUCCEEDED for i in range(4)
        ], (ends, server.read_log())
        assert [end.result.image.data for end in ends if end.HasField("result")] == [
            expected[i] for i in range(4) if i != 2
        ]
        assert get(server, ids[2]).attempts == 0
        assert through_sdk.result(60) == expected[3]
        assert len(jobs_of(server)) == 5 + (not refused), "a refused job exists, or a job exists twice"
        wait_until(lambda: all(job.state in FINAL for job in jobs_of(server)), "all jobs to end")
        log = server.read_log()
        assert "Traceback" not in log, log
        return refused


def last_of(server: ServerProcess, stream: Iterator[job_pb2.JobEvent]) -> job_pb2.JobEvent:
    """Returns the last event of a stream; GetJob must report its state by then."""
    for event in stream:
        if event.state in FINAL:
            assert state_of(server, event.job_id) in (event.state, None)
            return event
    raise AssertionError("the stream ended before its job")


def paint_through_sdk(server: ServerProcess, one: pb.ReconstructStyleRequest) -> bytes:
    """Runs a job through the SDK, without handling errors, and returns the picture."""
    source, options = one.styles[0].image.data, one.options
    with gramophone.Client(server.address, retry_overload=True) as client:
        job = client.style(
            source, size=32, iterations=options.iterations, report_every=5, preview_every=0, seed=options.seed
        )
        return job.result().data


def submission_refusal(server: ServerProcess) -> grpc.StatusCode | None:
    """Submits a job; returns the code of its refusal, which must come at once with a retry delay, or None."""
    begun, refusal = time.monotonic(), None
    try:
        next(server.style.ReconstructStyle(request(9, iterations=3)))
    except grpc.RpcError as error:
        refusal = error
    assert time.monotonic() - begun < AT_ONCE
    if refusal is None:
        return None
    assert detail_of(refusal, error_details_pb2.RetryInfo()).retry_delay.seconds >= 1
    return check_error(refusal, request(9), {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


def timed(call: Callable[[Any], Any], message: Any) -> Any:
    """Makes a call, which must return at once, and returns the response."""
    begun = time.monotonic()
    answer = call(message)
    assert time.monotonic() - begun < AT_ONCE
    return answer


def state_of(server: ServerProcess, job_id: str) -> int | None:
    """Returns a job's state, which must come at once; None if the job has ended and cannot be read."""
    begun = time.monotonic()
    try:
        return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job.state
    except grpc.RpcError as error:
        check_error(error, job_service_pb2.GetJobRequest(), {grpc.StatusCode.UNAVAILABLE})
        return None
    finally:
        assert time.monotonic() - begun < AT_ONCE


def get(server: ServerProcess, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job


def jobs_of(server: ServerProcess) -> list[job_pb2.Job]:
    return list(server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs)


def is_serving(server: ServerProcess) -> bool:
    stub = health_pb2_grpc.HealthStub(server.channel)
    return stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def why_not_serving(server: ServerProcess) -> str:
    """Returns the reason in the metadata of the health check."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    _, call = stub.Check.with_call(health_pb2.HealthCheckRequest())
    return str(dict(call.trailing_metadata()).get("gramophone-reason", ""))


@pytest.mark.parametrize("kind", ["a lock", "frozen", "blobs moved"])
def test_a_server_that_stops_during_an_outage_leaves_its_jobs_to_the_next(kind, postgres, expected, tmp_path):
    data = tmp_path / "data"
    outage, args = {
        "a lock": (lambda: outages.lock_held(data / "jobs.sqlite"), []),
        "frozen": (lambda: outages.frozen(postgres), ["--database", postgres.url]),
        "blobs moved": (lambda: outages.moved_away(data / "blobs"), []),
    }[kind]
    args = ["--data", str(data), *FREQUENT_CHECKPOINTS, "--grace", "3", *args]
    with ServerProcess(*args) as server:
        ids = []
        for seed in range(2):
            stream = events(server.style.ReconstructStyle(request(seed, iterations=ITERATIONS)))
            ids.append(next(stream).job_id)
        with outage():
            wait_until(lambda: not is_serving(server), "the server to notice the outage")
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0
            assert time.monotonic() - begun < 3 + 5
        assert "Traceback" not in server.read_log(), server.read_log()
    with ServerProcess(*args) as server:
        for job_id, data_expected in zip(ids, expected, strict=False):
            watched = server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
            assert list(events(watched))[-1].result.image.data == data_expected


def test_a_server_that_starts_without_its_database_waits_and_then_fails(postgres, tmp_path):
    args = ["--data", str(tmp_path / "data"), "--database", postgres.url]
    postgres.stop()
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="the database of jobs cannot be used"):
        ServerProcess(*args)
    assert time.monotonic() - begun < 20

    def start_later() -> None:
        time.sleep(4)
        postgres.start()

    starting = in_background(start_later)
    with ServerProcess(*args) as server:
        assert is_serving(server)
    starting.join()


@pytest.mark.alone
def test_other_calls_are_answered_while_the_database_is_suspended(postgres, tmp_path):
    """A database without any answer takes longest to be noticed."""
    with ServerProcess("--data", str(tmp_path), "--database", postgres.url, *WATCHED) as server:
        with Bystander(server) as bystander:
            for _ in range(2):
                with outages.frozen(postgres):
                    time.sleep(4)
                time.sleep(3)
        bystander.check(errors=True)
        assert set(bystander.report.errors) <= {"UNAVAILABLE"}
