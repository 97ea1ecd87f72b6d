"""Workers that die, hang or run out of memory: the job continues and makes the same picture."""

import os
import signal

import psutil
import pytest

from gramophone.v1 import job_pb2, job_service_pb2
from tests.harness import ServerProcess, endless_request, events, run, style_request, wait_until

from .recovery import (
    FREQUENT_CHECKPOINTS,
    ONE_THREAD,
    at_random_moments,
    checkpoints,
    in_background,
    picture,
    request,
    resumed_at,
    undisturbed,
)


def kill_worker(server: ServerProcess) -> bool:
    for worker in server.workers():
        worker.kill()
    return True


@pytest.fixture(scope="module")
def jobs(long) -> tuple[list, list[bytes]]:
    requests = [request(seed) for seed in range(10 if long else 3)]
    return requests, undisturbed(requests)


@pytest.mark.slow
def test_jobs_whose_worker_is_killed_repeatedly_make_the_same_bytes(jobs, long, tmp_path):
    requests, expected = jobs
    with ServerProcess("--data", str(tmp_path), "--attempts", "100", *FREQUENT_CHECKPOINTS) as server:
        ended = False
        killer = in_background(
            lambda: at_random_moments(20 if long else 5, lambda: not ended and kill_worker(server), seed=1, most=6)
        )
        made = [picture(server, one) for one in requests]
        ended = True
        killer.join(10)
        jobs_there = server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs
        assert "Traceback" not in server.read_log()
    assert made == expected
    assert sum(job.attempts for job in jobs_there) > len(requests)


def test_a_job_continues_from_its_checkpoint_after_its_worker_is_killed(tmp_path):
    with ServerProcess("--data", str(tmp_path), *FREQUENT_CHECKPOINTS) as server:
        stream = events(server.style.ReconstructStyle(request(0, iterations=3000)))
        wait_for_progress(stream, 50)
        wait_until(lambda: bool(checkpoints(tmp_path)), "a checkpoint")
        kill_worker(server)
        after = next(e for e in stream if e.state == job_pb2.JOB_STATE_QUEUED)
        wait_for_progress(stream, 1)
        assert min(resumed_at(server)) > 0
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=after.job_id))
        assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.slow
def test_a_job_fails_after_its_last_attempt():
    with ServerProcess("--attempts", "2", *ONE_THREAD) as server:
        stream = events(server.style.ReconstructStyle(endless_request()))
        wait_for_progress(stream, 1)
        kill_worker(server)
        # Progress from before the kill may still arrive; progress after this event is from the second attempt.
        next(e for e in stream if e.state == job_pb2.JOB_STATE_QUEUED)
        wait_for_progress(stream, 1)
        kill_worker(server)
        last = list(stream)[-1]
        assert last.state == job_pb2.JOB_STATE_FAILED
        assert "signal 9" in last.error.message
        assert "2 times" in last.error.message
        # Other jobs still run.
        assert run(server, style_request()).iterations == 4


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced():
    """The worker is suspended: alive and silent, as with a driver call that never returns."""
    with ServerProcess("--hang-timeout", "6", *ONE_THREAD) as server:
        stream = events(server.style.ReconstructStyle(endless_request()))
        first = wait_for_progress(stream, 1)
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        next(e for e in stream if e.state == job_pb2.JOB_STATE_QUEUED)
        wait_for_progress(stream, 1)
        assert "hangs and is killed" in server.read_log()
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=first))
        assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.slow
def test_a_job_starts_over_from_a_damaged_checkpoint(jobs, tmp_path):
    requests, expected = jobs
    with ServerProcess("--data", str(tmp_path), *FREQUENT_CHECKPOINTS) as server:
        stream = events(server.style.ReconstructStyle(requests[0]))
        wait_until(lambda: bool(checkpoints(tmp_path)), "a checkpoint")
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        (path,) = checkpoints(tmp_path)
        path.write_bytes(path.read_bytes()[:-100])
        worker.kill()
        last = list(stream)[-1]
        assert last.result.image.data == expected[0]
        assert "is damaged: the job starts over" in server.read_log()


def test_a_job_that_runs_out_of_memory_is_tried_in_tiles():
    """The worker's address space is limited after it has opened its device, so that allocations really fail."""
    with ServerProcess(*ONE_THREAD) as server:
        run(server, style_request())
        (worker,) = server.workers()
        room = 150 << 20
        psutil.Process(worker.pid).rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + room,) * 2)
        stream = events(server.style.ReconstructStyle(style_request(size=768, iterations=2, optimizer=2)))
        history = list(stream)
        log = server.read_log()
        assert "goes back to the queue: The job ran out of memory" in log
        assert history[-1].state in (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED)
        if history[-1].state == job_pb2.JOB_STATE_FAILED:
            assert "ran out of memory" in history[-1].error.message


def wait_for_progress(stream, iteration: int) -> str:
    event = next(e for e in stream if e.HasField("progress") and e.progress.iteration >= iteration)
    return event.job_id
