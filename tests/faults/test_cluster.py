"""Servers of a cluster that die, pause, or lose the network or the database: no job is lost or ends twice."""

import hashlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

import gramophone
from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import ServerProcess, endless_request, events, png, run, style_request, wait_until

from .clusters import LEASE, Network, ends, front, result_of, two_fronts
from .recovery import checkpoints, request, undisturbed

State = job_pb2.JobState
ITERATIONS = 250


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    """The pictures of `request(seed, ITERATIONS)` from a single server."""
    return undisturbed([request(seed, ITERATIONS) for seed in range(4)])


def submit(server, one) -> str:
    """Submits a job that continues without its stream, and returns its id."""
    one.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    return next(events(server.style.ReconstructStyle(one))).job_id


def watch(server, job_id: str):
    return events(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)))


def job_of(server, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job


def test_any_front_serves_any_job(tmp_path, postgres):
    with two_fronts(tmp_path, postgres.url) as (one, other):
        job_id = submit(one, endless_request())
        stream = watch(other, job_id)
        assert next(stream).state == State.JOB_STATE_QUEUED
        assert any(event.progress.HasField("preview") for event in stream)
        stream.close()
        small = other.jobs.GetPreview(job_service_pb2.GetPreviewRequest(job_id=job_id, size=16))
        assert max(small.image.width, small.image.height) <= 16
        assert [job.id for job in other.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs] == [job_id]
        other.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        begun = time.monotonic()
        for server in (one, other):
            assert list(watch(server, job_id))[-1].state == State.JOB_STATE_CANCELLED
        assert time.monotonic() - begun < 10
        done = run(one, style_request(1))
        newest = other.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs[0]
        pieces = other.jobs.DownloadResult(job_service_pb2.DownloadResultRequest(job_id=newest.id))
        assert b"".join(piece.data for piece in pieces) == done.image.data
        other.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=newest.id))
        assert len(one.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs) == 1


def test_uploads_and_request_ids_are_known_at_all_fronts(tmp_path, postgres):
    data = png()
    name = hashlib.sha256(data).hexdigest()
    with two_fronts(tmp_path, postgres.url) as (one, other):
        one.jobs.UploadImage(job_service_pb2.UploadImageRequest(sha256=name, data=piece) for piece in (data,))
        assert other.jobs.GetUpload(job_service_pb2.GetUploadRequest(sha256=name)).complete
        same = style_request()
        same.styles[0].image.CopyFrom(options_pb2.InputImage(sha256=name))
        same.submission.request_id = "mine"
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda server: run(server, same).image.data, (one, other) * 4))
        assert len(set(made)) == 1
        assert len(ends(postgres.url)) == 1


@pytest.mark.slow
def test_the_jobs_of_a_killed_front_are_continued_by_another(tmp_path, postgres, expected):
    with front(tmp_path, postgres.url) as other:
        one = front(tmp_path, postgres.url)
        try:
            ids = [submit(server, request(seed, ITERATIONS)) for seed, server in enumerate((one, other) * 2)]
            with gramophone.Client(other.address) as client:
                made: dict[int, object] = {}
                jobs = [client.job(job_id) for job_id in ids]

                def collect(number: int) -> None:
                    made[number] = jobs[number].result()

                waiting = [threading.Thread(target=collect, args=(number,)) for number in range(4)]
                for thread in waiting:
                    thread.start()
                wait_until(lambda: len(checkpoints(tmp_path)) >= 2, "checkpoints of two jobs")
                os.kill(one.process.pid, signal.SIGKILL)
                for thread in waiting:
                    thread.join(120)
                assert sorted(made) == [0, 1, 2, 3]
            assert [result_of(other, job_id) for job_id in ids] == expected
            assert ends(postgres.url) == dict.fromkeys(ids, 1)
            assert "is gone; 1 jobs go back to the queue" in other.read_log()
            assert "resumes at iteration" in other.read_log()
        finally:
            one.process.kill()
            one.__exit__(None, None, None)


@pytest.mark.slow
def test_a_front_that_stops_gives_back_its_job_at_once(tmp_path, postgres, expected):
    with front(tmp_path, postgres.url, lease=600.0) as one:
        job_id = submit(one, request(0, ITERATIONS))
        wait_until(lambda: bool(checkpoints(tmp_path)), "a checkpoint")
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(60) == 0
    with front(tmp_path, postgres.url, lease=600.0) as other:
        assert result_of(other, job_id) == expected[0]
        assert "resumes at iteration" in other.read_log()
        assert ends(postgres.url) == {job_id: 1}


@pytest.mark.slow
def test_the_late_writes_of_a_paused_front_are_refused(tmp_path, postgres, expected):
    with front(tmp_path, postgres.url) as one:
        job_id = submit(one, request(0, ITERATIONS))
        wait_until(lambda: bool(checkpoints(tmp_path)), "a checkpoint")
        # Its worker goes on, and sends a result that the paused server gets late.
        os.kill(one.process.pid, signal.SIGSTOP)
        try:
            with front(tmp_path, postgres.url) as other:
                assert result_of(other, job_id) == expected[0]
                os.kill(one.process.pid, signal.SIGCONT)
                wait_until(
                    lambda: "this server had lost its leases" in one.read_log(), "the paused front to join again"
                )
                wait_until(lambda: "serving again" in one.read_log(), "the front to serve again")
                assert result_of(one, job_id) == expected[0]
                assert ends(postgres.url) == {job_id: 1}
                assert run(one, style_request(7)).iterations == 4
                assert job_of(one, job_id).attempts == 2
        finally:
            os.kill(one.process.pid, signal.SIGCONT)


@pytest.mark.slow
def test_both_sides_agree_after_the_network_of_one_was_cut(tmp_path, postgres, expected):
    url = sa.make_url(postgres.url)
    with Network(url.port or 0) as network, front(tmp_path, postgres.url) as other:
        through = url.set(port=network.port).render_as_string(hide_password=False)
        with front(tmp_path, through) as one:
            ids = [submit(server, request(seed, ITERATIONS)) for seed, server in enumerate((one, other) * 2)]
            wait_until(lambda: len(checkpoints(tmp_path)) >= 2, "checkpoints of two jobs")
            with network.cut():
                begun = time.monotonic()
                assert [result_of(other, job_id) for job_id in ids] == expected
                time.sleep(max(0.0, 30 - (time.monotonic() - begun)))
            wait_until(lambda: "this server had lost its leases" in one.read_log(), "the front to join again")
            wait_until(lambda: "serving again" in one.read_log(), "the front to serve again")
            assert [result_of(one, job_id) for job_id in ids] == expected
            assert ends(postgres.url) == dict.fromkeys(ids, 1)
            assert run(one, style_request(7)).iterations == 4


@pytest.mark.slow
def test_jobs_survive_a_crash_of_the_database(tmp_path, postgres, expected):
    with two_fronts(tmp_path, postgres.url) as (one, other):
        ids = [submit(server, request(seed, ITERATIONS)) for seed, server in enumerate((one, other) * 2)]
        wait_until(lambda: len(checkpoints(tmp_path)) >= 2, "checkpoints of two jobs")
        postgres.kill()
        time.sleep(2 * LEASE)
        postgres.start()
        for server in (other, one):
            assert [patiently(server, job_id) for job_id in ids] == expected
        assert ends(postgres.url) == dict.fromkeys(ids, 1)
        # Nobody takes over leases that could not be renewed because the database was away.
        assert "is gone" not in one.read_log() + other.read_log()
        assert all(job_of(one, job_id).attempts == 1 for job_id in ids)


def patiently(server, job_id: str) -> bytes:
    """Returns the picture of a job as the SDK gets it, which retries while the database is away."""
    with gramophone.Client(server.address) as client:
        client.job(job_id).result()
    return result_of(server, job_id)


def test_settings_of_a_cluster_are_checked(tmp_path):
    for args, why in (
        (("--data", str(tmp_path)), "--cluster needs one PostgreSQL database"),
        (("--database", "postgresql+psycopg://a@127.0.0.1:1/b"), "--cluster needs --data, a folder"),
    ):
        with pytest.raises(RuntimeError, match=why) as caught:
            ServerProcess("--cluster", *args)
        assert "Traceback" not in str(caught.value)


def test_a_server_alone_does_not_start_beside_a_cluster(tmp_path, postgres):
    with front(tmp_path, postgres.url), pytest.raises(RuntimeError, match="is another server's"):
        ServerProcess("--data", str(tmp_path), "--database", postgres.url)
