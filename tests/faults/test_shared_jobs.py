"""Jobs that share a CPU: what happens to one of them harms no other, and reproducible jobs run alone."""

import json
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from gramophone.v1 import job_pb2, job_service_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, events, run, wait_until

from .recovery import FREQUENT_CHECKPOINTS, checkpoints, picture, request, resumed_at

pytestmark = pytest.mark.slow

ENDLESS = 1_000_000
TWO_THREADS = (*FREQUENT_CHECKPOINTS, "--threads", "2")


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


def running(server: ServerProcess, number: int) -> list[tuple[str, Iterator[job_pb2.JobEvent]]]:
    """Starts endless jobs that share the device; returns their ids and further events once all have progressed."""
    jobs = [submit(server, shared(seed, ENDLESS)) for seed in range(number)]
    for _, stream in jobs:
        until_progress(stream)
    return jobs


def goes_on(server: ServerProcess, job_id: str) -> None:
    """Waits for more progress of a job, which has run without an interruption."""
    reached = fetched(server, job_id).progress.iteration
    wait_until(lambda: fetched(server, job_id).progress.iteration > reached, "progress of the neighbor")
    assert fetched(server, job_id).attempts == 1


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server with three workers, which have already started."""
    with ServerProcess("--threads", "3") as process:
        for job_id, stream in running(process, 3):
            cancel(process, job_id)
            end(stream)
        assert len(process.workers()) == 3
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


def test_the_threads_are_divided_and_the_job_that_remains_gets_all(server):
    limited = [shared(seed, ENDLESS, time_limit=Duration(seconds=limit)) for seed, limit in ((1, 2), (2, 8))]
    (_, first), (_, last), (other, _) = (submit(server, one) for one in (*limited, shared(3, ENDLESS)))
    threads = [json.loads(end(first).result.recipe_json)["threads"]]
    cancel(server, other)
    threads.append(json.loads(end(last).result.recipe_json)["threads"])
    assert threads == [1, 3]


def test_reproducible_jobs_make_the_same_bytes_between_shared_jobs(server):
    expected = picture(server, request(7, 40))
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
    goes_on(server, third_id)
    cancel(server, third_id)
    end(third)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_harms_its_own_job_alone_which_resumes_from_its_checkpoint(tmp_path, killed):
    with ServerProcess("--data", str(tmp_path), *TWO_THREADS) as server:
        jobs = running(server, 2)
        wait_until(lambda: len(checkpoints(tmp_path)) == 2, "checkpoints of both jobs")
        (harmed, stream), (neighbor, _) = jobs[killed], jobs[1 - killed]
        workers = sorted(server.workers(), key=lambda worker: worker.create_time())
        workers[killed].kill()
        assert next(event for event in stream if event.state == job_pb2.JOB_STATE_QUEUED)
        goes_on(server, neighbor)
        cancel(server, neighbor)
        until_progress(stream)
        cancel(server, harmed)
        end(stream)
        (iteration,) = resumed_at(server)
        assert iteration > 0
        assert "Traceback" not in server.read_log()


def test_a_worker_that_hangs_harms_its_own_job_alone(tmp_path):
    with ServerProcess("--data", str(tmp_path), "--hang-timeout", "6", *TWO_THREADS) as server:
        (neighbor, _), (harmed, stream) = running(server, 2)
        worker = max(server.workers(), key=lambda worker: worker.create_time())
        os.kill(worker.pid, signal.SIGSTOP)
        assert next(event for event in stream if event.state == job_pb2.JOB_STATE_QUEUED)
        assert "hangs and is killed" in server.read_log()
        goes_on(server, neighbor)
        cancel(server, neighbor)
        until_progress(stream)
        cancel(server, harmed)
        assert end(stream).state == job_pb2.JOB_STATE_CANCELLED


def test_a_job_that_runs_out_of_memory_leaves_its_neighbor_running():
    """The address space of its worker is limited, so that allocations really fail: the worker may not survive it."""
    with ServerProcess(*TWO_THREADS) as server:
        (neighbor, _), (other, stream) = running(server, 2)
        cancel(server, other)
        end(stream)
        worker = max(server.workers(), key=lambda worker: worker.create_time())
        limit = worker.memory_info().vms + (150 << 20)
        psutil.Process(worker.pid).rlimit(psutil.RLIMIT_AS, (limit, limit))
        large = shared(2, 2, optimizer=2)
        large.options.size = 768
        large_id, _ = submit(server, large)
        wait_until(lambda: "goes back to the queue" in server.read_log(), "the failure")
        goes_on(server, neighbor)
        # Its second attempt runs alone.
        assert fetched(server, large_id).state == job_pb2.JOB_STATE_QUEUED
        cancel(server, neighbor)
        cancel(server, large_id)


def test_jobs_run_one_by_one_without_memory_for_a_second_worker():
    with ServerProcess(*TWO_THREADS) as server:
        run(server, request(0, 4))
        (worker,) = server.workers()
        memory = int(1.5 * worker.memory_info().rss)
    with ServerProcess(*TWO_THREADS, "--memory", str(memory)) as server:
        jobs = [submit(server, shared(seed, 200)) for seed in range(2)]
        assert [end(stream).state for _, stream in jobs] == [job_pb2.JOB_STATE_SUCCEEDED] * 2
        first, second = (fetched(server, job_id) for job_id, _ in jobs)
        assert first.end_time.ToNanoseconds() <= second.start_time.ToNanoseconds()
        assert len(server.workers()) == 1
