"""A worker that divides each large picture among two parts of the CPU: same picture, jobs and faults as on one."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from gramophone.requests import estimate_request
from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import ServerProcess, events, peak_memory, png, run, style_request, wait_until

from .recovery import checkpoints, request, resumed_at

pytestmark = pytest.mark.slow
TWO, ONE = ("--device", "cpu+cpu", "--threads", "2"), ("--device", "cpu", "--threads", "1")
# The smallest canvas that two devices divide.
SIDE = 512


def pixels(result: job_pb2.JobResult) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.image.data))).astype(int)


def test_two_devices_paint_the_picture_of_one_and_the_same_bytes_again():
    job = style_request(size=SIDE, iterations=6, precision=options_pb2.PRECISION_FLOAT32)
    with ServerProcess(*ONE) as server:
        expected = run(server, job)
    with ServerProcess(*TWO) as server:
        got, again = run(server, job), run(server, job)
    assert json.loads(got.recipe_json)["device"] == "cpu+cpu"
    assert json.loads(got.recipe_json)["tile_size"] == 0
    assert got.image.data == again.image.data
    assert got.loss == pytest.approx(expected.loss, rel=1e-2)
    assert np.abs(pixels(got) - pixels(expected)).mean() < 1


def test_a_divided_job_resumes_after_its_worker_was_killed_and_makes_the_same_bytes(tmp_path):
    job = request(0, iterations=40, size=SIDE)
    with ServerProcess(*TWO) as server:
        expected = run(server, job)
    with ServerProcess("--data", str(tmp_path), "--checkpoint-every", "0.5", *TWO) as server:
        stream = events(server.style.ReconstructStyle(job))
        next(e for e in stream if e.HasField("progress"))
        wait_until(lambda: bool(checkpoints(tmp_path)), "a checkpoint")
        (worker,) = server.workers()
        worker.kill()
        next(e for e in stream if e.state == job_pb2.JOB_STATE_QUEUED)
        last = list(stream)[-1]
        assert min(resumed_at(server)) > 0
    assert last.result.image.data == expected.image.data


def test_jobs_on_several_devices_run_one_at_a_time_and_stop_after_an_iteration():
    with ServerProcess(*TWO) as server:
        job = request(0, iterations=10**5, size=SIDE, report_every=1)
        streams = [events(server.style.ReconstructStyle(job))]
        first = next(e for e in streams[0] if e.HasField("progress"))
        streams.append(events(server.style.ReconstructStyle(job)))
        waiting = next(streams[1])
        assert waiting.state == job_pb2.JOB_STATE_QUEUED
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=first.job_id))
        assert list(streams[0])[-1].state == job_pb2.JOB_STATE_CANCELLED
        assert next(e for e in streams[1] if e.HasField("progress")).job_id == waiting.job_id
        assert len(server.workers()) == 1
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=waiting.job_id))
        assert list(streams[1])[-1].state == job_pb2.JOB_STATE_CANCELLED


def test_the_estimate_counts_the_memory_of_both_devices():
    job = estimate_request("style", [png(256, 256)], size=2 * SIDE, iterations=4)
    with ServerProcess(*TWO) as server:
        two = server.style.EstimateJob(job)
        held = peak_memory(server, job)
    with ServerProcess(*ONE) as server:
        one = server.style.EstimateJob(job)
    assert (two.device, two.fits, two.tile_size) == ("cpu+cpu", True, 0)
    # Halos are computed by both.
    assert one.flops < two.flops < 1.5 * one.flops
    assert 0.7 * held < two.peak_memory_bytes
    assert held < 1.05 * two.peak_memory_bytes
