"""Jobs that share a worker: what happens to one of them harms no other, and reproducible jobs run alone."""

import json
from collections.abc import Iterator

import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from gramophone.v1 import job_pb2, job_service_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, events, run, wait_until

from .recovery import FREQUENT_CHECKPOINTS, ONE_THREAD, checkpoints, picture, request, undisturbed

ENDLESS = 1_000_000


def shared(seed: int, iterations: int = 300, **fields: object) -> pb.ReconstructStyleRequest:
    return request(seed, iterations, reproducible=False, **fields)


def submit(server: ServerProcess, one: pb.ReconstructStyleRequest) -> tuple[str, Iterator[job_pb2.JobEvent]]:
    """Submits a job; returns its id and its further events."""
    stream = events(server.style.ReconstructStyle(one))
    return next(stream).job_id, stream


def until_progress(stream: Iterator[job_pb2.JobEvent]) -> int:
    """Waits for progress; returns the iteration."""
    return next(event for event in stream if event.HasField("progress")).progress.iteration


def end(stream: Iterator[job_pb2.JobEvent]) -> job_pb2.JobEvent:
    return list(stream)[-1]


def cancel(server: ServerProcess, job_id: str) -> None:
    server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))


def fetched(server: ServerProcess, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*ONE_THREAD, "--jobs-per-worker", "3") as process:
        yield process


def test_shared_jobs_run_at_the_same_time_and_end_within_two_percent_of_their_loss_alone(server):
    seeds = range(3)
    alone = [run(server, request(seed, 100, optimizer=2, learning_rate=2.0)).loss for seed in seeds]
    jobs = [submit(server, shared(seed, 100, optimizer=2, learning_rate=2.0)) for seed in seeds]
    ends = [end(stream) for _, stream in jobs]
    assert [one.result.loss for one in ends] == pytest.approx(alone, rel=0.02)
    spans = [(job.start_time.ToNanoseconds(), job.end_time.ToNanoseconds()) for job in
             (fetched(server, job_id) for job_id, _ in jobs)]  # fmt: skip
    assert max(begun for begun, _ in spans) < min(ended for _, ended in spans)
    assert json.loads(ends[0].result.recipe_json)["reproducible"] is False


def test_reproducible_jobs_make_the_same_bytes_between_shared_jobs(server):
    (expected,) = undisturbed([request(7, 40)])
    first, stream = submit(server, shared(1, ENDLESS))
    until_progress(stream)
    job_id, waiting = submit(server, request(7, 40))
    behind, _ = submit(server, shared(2, ENDLESS))
    assert fetched(server, job_id).state == job_pb2.JOB_STATE_QUEUED
    cancel(server, first)
    assert end(waiting).result.image.data == expected
    cancel(server, behind)
    assert picture(server, request(7, 40)) == expected


def test_a_cancelled_job_and_one_at_its_time_limit_leave_the_others_running(server):
    cancelled, first = submit(server, shared(1, ENDLESS))
    _, second = submit(server, shared(2, ENDLESS, time_limit=Duration(seconds=1)))
    third_id, third = submit(server, shared(3, ENDLESS))
    for stream in (first, third):
        until_progress(stream)
    cancel(server, cancelled)
    assert end(first).state == job_pb2.JOB_STATE_CANCELLED
    limited = end(second)
    assert limited.state == job_pb2.JOB_STATE_SUCCEEDED
    assert limited.result.iterations < ENDLESS
    reached = fetched(server, third_id).progress.iteration
    wait_until(lambda: fetched(server, third_id).progress.iteration > reached, "more progress of the third job")
    cancel(server, third_id)


def test_jobs_resume_from_their_checkpoints_alone_after_their_worker_is_killed(tmp_path):
    with ServerProcess("--data", str(tmp_path), *FREQUENT_CHECKPOINTS) as server:
        jobs = [submit(server, shared(seed, 2000)) for seed in range(3)]
        for _, stream in jobs:
            until_progress(stream)
        wait_until(lambda: len(checkpoints(tmp_path)) == 3, "checkpoints of all jobs")
        before = [fetched(server, job_id).progress.iteration for job_id, _ in jobs]
        (worker,) = server.workers()
        worker.kill()
        for _, stream in jobs:
            assert next(e for e in stream if e.state == job_pb2.JOB_STATE_QUEUED)
        for (job_id, stream), reached in zip(jobs, before, strict=True):
            assert until_progress(stream) > min(reached, 5), "the job has started over"
            cancel(server, job_id)
            end(stream)
        log = server.read_log()
        assert log.count("resumes at iteration") == 3
        assert "Traceback" not in log


def test_a_job_that_runs_out_of_memory_leaves_its_neighbors_running():
    """The worker's address space is limited after it has opened its device, so that allocations really fail."""
    with ServerProcess(*ONE_THREAD) as server:
        run(server, request(0, 4))
        neighbor, stream = submit(server, shared(1, ENDLESS))
        until_progress(stream)
        (worker,) = server.workers()
        limit = worker.memory_info().vms + (150 << 20)
        psutil.Process(worker.pid).rlimit(psutil.RLIMIT_AS, (limit, limit))
        large = shared(2, 2, optimizer=2)
        large.options.size = 768
        large_id, _ = submit(server, large)
        wait_until(lambda: "goes back to the queue: The job ran out of memory" in server.read_log(), "the failure")
        reached = fetched(server, neighbor).progress.iteration
        wait_until(lambda: fetched(server, neighbor).progress.iteration > reached, "progress of the neighbor")
        # Its second attempt runs alone.
        assert fetched(server, large_id).state == job_pb2.JOB_STATE_QUEUED
        assert fetched(server, neighbor).attempts == 1
        cancel(server, neighbor)
        cancel(server, large_id)
