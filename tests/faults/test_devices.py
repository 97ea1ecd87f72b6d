"""Devices that do not exist or are lost: the server names the device and the reason, and no job ends because of it."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.cli.serve import serve_command
from gramophone_server.observability.readiness import REASON
from gramophone_server.settings import Settings
from tests.harness import ServerProcess, endless_request, events, run, style_request, wait_until
from tests.marks import slow

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


def serve(*args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a server that must end by itself."""
    command = [sys.executable, "-m", "gramophone_server", "--port", "0", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def refusal(*args: str) -> str:
    """Returns the message with which `gramophone serve` refuses arguments, before it starts a server."""
    with pytest.raises(click.UsageError) as caught:
        serve_command(Settings).make_context("serve", ["--port", "0", *args])
    return caught.value.format_message()


def health(server: ServerProcess, service: str = "") -> tuple[int, str]:
    """Returns (health status of a service, reason in the metadata)."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    answer, call = stub.Check.with_call(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return answer.status, str(dict(call.trailing_metadata()).get(REASON, ""))


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (["foo"], "'foo' cannot be a device: write auto, cpu, or cuda:0"),
        (["cpu,cpu"], "'cpu,cpu' cannot be a device"),
        (["cuda:x"], "'cuda:x' cannot be a device"),
        (["cuda:-1"], "'cuda:-1' cannot be a device"),
        (["cuda:01"], "'cuda:01' cannot be a device: write cuda:1"),
        (["cuda0"], "'cuda0' cannot be a device: write cuda:0"),
        (["CUDA:2"], "'CUDA:2' cannot be a device: write cuda:2"),
        (["gpu"], "'gpu' cannot be a device: write cuda:0"),
        (["1"], "'1' cannot be a device: write cuda:1"),
        (["mps"], "'mps' cannot be a device: only CPUs and NVIDIA GPUs are supported: write cpu"),
        (["xpu:0"], "'xpu:0' cannot be a device: only CPUs"),
        ([""], "'' cannot be a device"),
        (["cpu", "meta"], "'meta' cannot be a device"),
        (["cuda", "cuda:0"], "cuda:0 is named twice"),
        (["auto", "cuda:1"], "name each device instead"),
        (["cuda:0+"], "'' cannot be a device"),
        (["cuda:0+gpu"], "'gpu' cannot be a device: write cuda:0"),
        (["cuda:0+cuda"], "cuda:0 is named twice"),
        (["cuda:0+cuda:1", "cuda:1"], "cuda:1 is named twice"),
        (["cuda:0+cpu"], "cuda:0+cpu is of two kinds: join only GPUs, as cuda:0+cuda:1, or only CPUs"),
        (["auto+auto"], "auto cannot be combined"),
    ],
)
def test_an_invalid_device_name_is_refused(devices, words):
    assert words in refusal(*(part for name in devices for part in ("--device", name)))


def test_a_process_with_an_invalid_device_name_ends_at_once(tmp_path):
    begun = time.monotonic()
    done = serve("--data", str(tmp_path / "data"), "--device", "gpu")
    assert done.returncode == 2 and done.stdout == ""
    assert "'gpu' cannot be a device" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--threads", "100000", "are too many for the"),
        ("--memory", "3", "less than a worker needs without a job"),
        ("--memory", "9" * 400, "is not a size"),
        ("--grace", "nan", "is not a finite number"),
        ("--grace", "-1", "not in the range"),
        ("--hang-timeout", "inf", "is not a finite number"),
    ],
)
def test_absurd_limits_of_workers_are_refused(option, value, words):
    assert words in refusal(option, value)


@no_gpu
@pytest.mark.parametrize("devices", [["cuda"], slow(["cuda:0"]), slow(["cuda:7"]), ["cpu", "cuda:3"]])
def test_a_named_device_that_cannot_be_opened_ends_the_server(devices, tmp_path):
    done = serve("--data", str(tmp_path), *(part for name in devices for part in ("--device", name)))
    assert done.returncode == 1
    assert f"Error: the server has stopped: {devices[-1]} cannot be used: " in done.stderr.splitlines()[-1]
    assert done.stderr.endswith("; use --device cpu, or omit --device to use the best device found\n")
    assert "Traceback" not in done.stderr


@no_gpu
def test_a_server_is_not_healthy_before_its_gpu_is_found(tmp_path):
    """A load balancer would send it jobs that it cannot run."""
    server = ServerProcess("--data", str(tmp_path), "--device", "cuda:0")
    with contextlib.suppress(RuntimeError, grpc.RpcError), server:
        while True:
            status, reason = health(server)
            assert status == NOT_SERVING
            assert "cuda:0" in reason
            time.sleep(0.05)


@no_gpu
@pytest.mark.slow
def test_a_server_without_its_device_keeps_jobs_for_the_next_server(tmp_path):
    with ServerProcess("--data", str(tmp_path), "--device", "cpu") as server:
        request = endless_request()
        request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
        stream = server.style.ReconstructStyle(request)
        job_id = next(event.job_id for event in events(stream) if event.HasField("progress"))
    assert serve("--data", str(tmp_path), "--device", "cuda:0").returncode == 1
    with ServerProcess("--data", str(tmp_path), "--device", "cpu") as server:
        watch = server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
        assert any(response.event.HasField("progress") for response in watch)


@no_gpu
def test_auto_uses_the_cpu_where_there_is_no_gpu_and_logs_it(tmp_path):
    with ServerProcess() as server:
        assert run(server, style_request()).image.data
        assert "this worker runs on the CPU" in server.read_log()


# A worker's interpreter runs this first: it fails as with a lost device, as long as the file BREAK_WORKERS exists.
BROKEN = """
import os, sys
if os.path.exists(os.environ.get("BREAK_WORKERS", "")) and "--fd" in " ".join(map(str, sys.orig_argv)):
    {how}
"""
HOW = {
    "exits": "sys.stderr.write('no such driver\\n'); os._exit(7)",
    "is killed": "os.kill(os.getpid(), 9)",
    "has no library": "sys.modules['torch'] = None",
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.slow
def test_jobs_wait_for_a_lost_device(how, tmp_path, monkeypatch, long):
    if how != "exits" and not long:
        pytest.skip("runs only with --long")
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(how=HOW[how]))
    broken = tmp_path / "broken"
    monkeypatch.setenv("BREAK_WORKERS", str(broken))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with ServerProcess("--data", str(tmp_path / "data"), "--device", "cpu") as server:
        before = run(server, style_request(iterations=100)).image.data
        stream = server.style.ReconstructStyle(style_request(iterations=100))
        running = next(event.job_id for event in events(stream) if event.HasField("progress"))
        broken.touch()
        for worker in server.workers():
            worker.kill()
        wait_until(lambda: health(server)[0] == NOT_SERVING, "the server to be unhealthy")
        for service in ("", "gramophone.v1.JobService"):
            status, reason = health(server, service)
            assert status == NOT_SERVING
            assert re.match("no worker can be used: a worker process for cpu .* before it was ready", reason), reason
        # Calls that need a worker fail with the reason; new jobs and the job that ran wait.
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            server.style.EstimateJob(pb.EstimateJobRequest(style=style_request()), timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "before it was ready" in caught.value.details()
        assert time.monotonic() - begun < 1
        waiting = server.style.ReconstructStyle(style_request(1))
        assert next(events(waiting)).state == job_pb2.JOB_STATE_QUEUED
        job = server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=running)).job
        assert job.state == job_pb2.JOB_STATE_QUEUED
        time.sleep(2.5)  # The server tries to start a worker more than once in this time.
        assert server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=running)).job.state == job_pb2.JOB_STATE_QUEUED
        broken.unlink()
        assert list(events(stream))[-1].result.image.data == before
        assert list(events(waiting))[-1].state == job_pb2.JOB_STATE_SUCCEEDED
        assert health(server) == (SERVING, "")
        assert server.read_log().count("a worker cannot be used") == 1


def test_one_of_two_workers_is_enough(tmp_path, monkeypatch):
    """The lost worker gets no jobs and no calls; the other worker serves them."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(how=HOW["exits"]))
    broken = tmp_path / "broken"
    monkeypatch.setenv("BREAK_WORKERS", str(broken))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with ServerProcess("--device", "cpu", "--device", "cpu", "--threads", "1") as server:
        wait_until(lambda: server.read_log().count("is ready on cpu") == 2, "both workers")
        broken.touch()
        server.workers()[0].kill()
        wait_until(lambda: "a worker cannot be used" in server.read_log(), "the lost worker to be noticed")
        for seed in range(3):
            assert run(server, style_request(seed)).image.data
        assert server.style.EstimateJob(pb.EstimateJobRequest(style=style_request()), timeout=20)
        assert health(server) == (SERVING, "")


@pytest.mark.slow
def test_a_worker_that_cannot_be_started_does_not_end_a_job(tmp_path, monkeypatch):
    """The Python interpreter of workers is missing for a while."""
    python = tmp_path / "python"
    python.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    monkeypatch.setattr(sys, "executable", str(python))
    with ServerProcess() as server:
        assert run(server, style_request()).image.data
        python.rename(tmp_path / "away")
        for worker in server.workers():
            worker.kill()
        wait_until(lambda: health(server)[0] == NOT_SERVING, "the server to be unhealthy")
        assert "no worker process can be started" in health(server)[1]
        stream = server.style.ReconstructStyle(style_request(1))
        assert next(events(stream)).state == job_pb2.JOB_STATE_QUEUED
        (tmp_path / "away").rename(python)
        assert list(events(stream))[-1].state == job_pb2.JOB_STATE_SUCCEEDED
