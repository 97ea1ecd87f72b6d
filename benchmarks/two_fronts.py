"""The time from a submission at one server of a cluster to the job's events at another server."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gramophone
from gramophone.v1 import job_pb2, job_service_pb2
from tests.faults.clusters import front
from tests.harness import ServerProcess, endless_request, events
from tests.postgres import Postgres, find_programs

from .inputs import UnavailableError, picture

TRIES, SIZE = 50, 32
# A server would kill a worker whose process is stopped.
_PATIENT = ("--hang-timeout", "3600")


def measure() -> dict[str, Any]:
    """Measures the seconds until the first event, the start and the first progress of each job arrive.

    Raises:
        UnavailableError: PostgreSQL is not installed.
    """
    try:
        find_programs()
    except pytest.skip.Exception as error:
        raise UnavailableError(str(error)) from error
    with (
        Postgres(durable=True) as postgres,
        tempfile.TemporaryDirectory() as folder,
        front(Path(folder), postgres.url, *_PATIENT) as other,
        # Before the first server starts, so that no other worker takes the job.
        _busy(other),
        front(Path(folder), postgres.url) as one,
        gramophone.Client(one.address) as client,
    ):
        # The first job warms up.
        found = [_seconds(client, other, number) for number in range(1 + TRIES)][1:]
    names = ("first event", "the job runs", "first progress")
    rows = [
        {
            "at the other server": name,
            "median": f"{1e3 * statistics.median(seconds):.0f} ms",
            "slowest": f"{1e3 * max(seconds):.0f} ms",
            "bar": bar,
        }
        for name, seconds, bar in zip(names, zip(*found, strict=True), ("≤ 300 ms", "", ""), strict=True)
    ]
    how = (
        "Two servers with --cluster on a PostgreSQL that writes each commit to the disk; the worker of the second one "
        f"has another job. {TRIES} jobs of {SIZE}x{SIZE}, one after the other: submitted through the SDK at the first "
        "server, which runs them, and watched at the second one from the moment when the SDK has the job's id. All "
        "times begin with the submission."
    )
    return {"title": "Two servers of a cluster", "how": how, "rows": rows}


@contextmanager
def _busy(server: ServerProcess) -> Iterator[None]:
    """Occupies the worker of a server with a job, and stops the worker's process so that it takes no core."""
    stream = events(server.style.ReconstructStyle(endless_request()))
    job_id = next(event.job_id for event in stream if event.HasField("progress"))
    workers = server.workers()
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))


def _seconds(client: gramophone.Client, other: ServerProcess, number: int) -> tuple[float, float, float]:
    """Submits a job, and returns the seconds until its events arrive at the other server; waits for its end."""
    style = picture(SIZE)
    begun = time.perf_counter()
    job = client.style(style, size=SIZE, iterations=4, seed=number)
    request = job_service_pb2.WatchJobRequest(job_id=job.id)
    seen = [(time.perf_counter() - begun, event) for event in events(other.jobs.WatchJob(request))]
    assert seen[-1][1].state == job_pb2.JOB_STATE_SUCCEEDED
    running = next(seconds for seconds, event in seen if event.state == job_pb2.JOB_STATE_RUNNING)
    progress = next(seconds for seconds, event in seen if event.HasField("progress"))
    return seen[0][0], running, progress
