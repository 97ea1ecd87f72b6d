"""Servers that are killed or stopped, and started again: jobs continue and make the same pictures."""

import concurrent.futures
import hashlib
import io
import signal
import subprocess
import sys
import time

import grpc
import pytest
import torch
from PIL import Image

import gramophone
from gramophone.v1 import job_pb2, job_service_pb2
from tests.harness import ServerProcess, encode, events, png, wait_until

from .recovery import (
    Restarting,
    at_random_moments,
    checkpoints,
    in_background,
    request,
    undisturbed,
)


@pytest.fixture
def restarting(tmp_path):
    """Returns a function that starts a Restarting server with more arguments."""
    made: list[Restarting] = []

    def make(*args: str) -> Restarting:
        made.append(Restarting(tmp_path / "data", *args))
        return made[-1]

    yield make
    for one in made:
        with one.server:
            pass


@pytest.mark.slow
def test_the_sdk_hides_kills_of_the_server(restarting, long, tmp_path):
    requests = [request(seed) for seed in range(6 if long else 3)]
    expected = undisturbed(requests)
    service = restarting()
    with gramophone.Client(service.server.address) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        source = requests[0].styles[0].image.data

        def paint(seed: int) -> bytes:
            job = client.style(source, size=32, iterations=300, report_every=5, preview_every=0, seed=seed)
            last = 0
            for frame in job:
                last = frame.iteration
            assert last == 300
            return job.result().data

        ended = False

        def kill() -> bool:
            if not ended:
                service.kill()
                service.start()
            return not ended

        killer = in_background(lambda: at_random_moments(10 if long else 3, kill, seed=2, most=5))
        made = list(pool.map(paint, range(len(requests))))
        ended = True
        killer.join(30)
        assert made == expected
        assert len(list(client.jobs())) == len(requests)
        assert {job.state for job in client.jobs()} == {"succeeded"}


@pytest.mark.slow
def test_the_next_server_finishes_running_and_waiting_jobs_after_sigterm(restarting):
    """With three devices, three of eight jobs run and five wait."""
    requests = [request(seed, iterations=100) for seed in range(8)]
    expected = undisturbed(requests)
    service = restarting("--device", "cpu", "--device", "cpu", "--device", "cpu", "--grace", "20")
    streams = [events(service.server.style.ReconstructStyle(one)) for one in requests]
    ids = [next(stream).job_id for stream in streams]

    def running() -> int:
        states = [job_pb2.JOB_STATE_RUNNING]
        return len(service.server.jobs.ListJobs(job_service_pb2.ListJobsRequest(states=states)).jobs)

    wait_until(lambda: running() == 3, "three running jobs")
    begun = time.monotonic()
    service.server.process.send_signal(signal.SIGTERM)
    for stream in streams:
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert service.server.process.wait(40) == 0
    assert time.monotonic() - begun < 25
    assert "Traceback" not in service.server.read_log()
    service.start()
    made = []
    for job_id in ids:
        watched = service.server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
        made.append(list(events(watched))[-1].result.image.data)
    assert made == expected


def test_submissions_with_the_same_request_id_make_one_job(restarting):
    service = restarting()
    one = request(0, iterations=5)
    one.submission.request_id = "3f1c"

    def submit() -> str:
        return list(events(service.server.style.ReconstructStyle(one)))[-1].job_id

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        ids = list(pool.map(lambda _: submit(), range(5)))
    assert len(set(ids)) == 1
    service.kill()
    service.start()
    assert submit() == ids[0]
    assert len(service.server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs) == 1
    other = request(1, iterations=5)
    other.submission.request_id = "3f1c"
    with pytest.raises(grpc.RpcError) as caught:
        list(service.server.style.ReconstructStyle(other))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "a different request" in caught.value.details()


def test_progress_and_results_survive_a_kill_of_the_server(restarting):
    service = restarting()
    history = list(events(service.server.style.ReconstructStyle(request(0, iterations=50))))
    service.kill()
    service.start()
    watched = service.server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=history[0].job_id))
    again = list(events(watched))
    assert again[-1].result == history[-1].result
    assert [e.progress.iteration for e in again if e.HasField("progress")] == list(range(5, 51, 5))
    assert [e.sequence for e in again] == sorted({e.sequence for e in again})


@pytest.mark.slow
def test_a_stream_that_exceeds_its_deadline_does_not_cancel_the_job(restarting):
    service = restarting()
    one = request(0, iterations=1000)
    one.submission.ClearField("on_disconnect")  # the default is to cancel
    call = service.server.style.ReconstructStyle(one, timeout=1.0)
    job_id = next(call).event.job_id
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    watched = service.server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
    assert list(events(watched))[-1].state == job_pb2.JOB_STATE_SUCCEEDED


def test_uploads_and_downloads_of_the_sdk_survive_a_restart(restarting, tmp_path):
    service = restarting()
    picture = tmp_path / "large.bmp"
    picture.write_bytes(encode(Image.open(io.BytesIO(png(700, 700))), "BMP"))
    assert picture.stat().st_size > 1 << 20
    with gramophone.Client(service.server.address) as client:
        name = client.upload(picture)
        job = client.style(gramophone.Uploaded(name), size=32, iterations=3)
        result = job.result()
        service.kill()
        service.start()
        job = client.job(job.id)
        assert job.download() == result.data
        job.download(tmp_path / "out.png")
        assert (tmp_path / "out.png").read_bytes() == result.data
        again = client.style(picture, size=32, iterations=3)
        assert again.result().data == result.data
        job.delete()
        again.delete()
        assert list(client.jobs()) == []


def test_a_data_folder_that_cannot_be_used_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with ServerProcess("--data", str(tmp_path / "taken")):
        for folder, words in (("taken", "another server's"), ("file/below", "jobs cannot be kept in")):
            command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--data", str(tmp_path / folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 1
            assert words in done.stderr
            assert "--data" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_job_starts_over_from_a_checkpoint_of_another_format(restarting, tmp_path):
    one = request(0)
    (expected,) = undisturbed([one])
    service = restarting()
    stream = events(service.server.style.ReconstructStyle(one))
    job_id = next(stream).job_id
    wait_until(lambda: bool(checkpoints(tmp_path / "data")), "a checkpoint")
    service.kill()
    (path,) = checkpoints(tmp_path / "data")
    values = torch.load(io.BytesIO(path.read_bytes()[:-32]), weights_only=True)
    del values["state"]["optimizer"]
    buffer = io.BytesIO()
    torch.save(values, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    service.start()
    watched = service.server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
    last = list(events(watched))[-1]
    assert last.result.image.data == expected, last.error
    assert "the job starts over" in service.server.read_log()
