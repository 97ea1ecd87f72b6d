"""Disks that fill up while the server runs: small file systems in memory that are really filled."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import ServerProcess, endless_request, events, rpc_status, run, style_request, wait_until

from . import outages
from .outages import fill
from .recovery import FREQUENT_CHECKPOINTS, ONE_THREAD, picture, request, undisturbed


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 8 MB."""
    with outages.small_disk(tmp_path / "disk") as folder:
        yield folder


def is_healthy(server: ServerProcess) -> bool:
    health = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
    return health.status == health_pb2.HealthCheckResponse.SERVING


def test_jobs_are_refused_while_the_disk_is_full(small_disk):
    with ServerProcess("--data", str(small_disk)) as server:
        run(server, style_request())
        filler = fill(small_disk)
        with pytest.raises(grpc.RpcError) as caught:
            list(server.style.ReconstructStyle(style_request(1)))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "disk" in caught.value.details()
        status = rpc_status(caught.value)
        assert status.details[0].Unpack(error_details_pb2.RetryInfo())
        assert is_healthy(server)
        filler.unlink()
        assert run(server, style_request(1)).iterations == 4


@pytest.mark.slow
def test_a_job_waits_for_disk_space_to_store_its_result(small_disk):
    # The result is larger than a checkpoint, so that deleting one does not make enough room for it.
    one = style_request(size=128, scales=1, iterations=40, report_every=2)
    (expected,) = undisturbed([one])
    # No checkpoints: the server would delete one to make room for the result.
    with ServerProcess("--data", str(small_disk), *ONE_THREAD, "--checkpoint-every", "1000") as server:
        stream = events(server.style.ReconstructStyle(one))
        first = next(e for e in stream if e.HasField("progress"))
        filler = fill(small_disk)
        wait_until(lambda: not is_healthy(server), "the server to notice that it cannot write the result")
        # Nobody is told that the job has ended before its result is on the disk.
        assert get(server, first.job_id).state == job_pb2.JOB_STATE_RUNNING
        with pytest.raises(grpc.RpcError) as caught:
            server.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=first.job_id))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        canceled = server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=first.job_id)).job
        assert canceled.state == job_pb2.JOB_STATE_RUNNING
        time.sleep(1.0)
        assert not is_healthy(server)
        filler.unlink()
        last = list(stream)[-1]
        assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last.error
        assert last.result.image.data == expected
        wait_until(lambda: is_healthy(server), "health")
        # No partly written file is left.
        assert not list(small_disk.rglob("*.part"))
        run(server, style_request(2))


@pytest.mark.slow
def test_a_job_continues_without_checkpoints_if_the_disk_has_no_room(small_disk):
    one = style_request(size=256, scales=1, iterations=20, report_every=2, preview=options_pb2.PreviewOptions(every=0))
    (expected,) = undisturbed([one])
    with ServerProcess("--data", str(small_disk), *ONE_THREAD, "--checkpoint-every", "0") as server:
        # Leave room for the events and the result, but not for a checkpoint: its canvas takes 768 KiB. Fill the disk
        # before the job begins: a first checkpoint that is slow to write would delay the next one.
        filler = fill(small_disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 600_000)
        last = list(events(server.style.ReconstructStyle(one)))[-1]
        assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last.error
        assert last.result.image.data == expected
        assert "a checkpoint could not be written" in server.read_log()
        assert not list(small_disk.rglob("*.pt"))


def test_a_damaged_result_fails_the_job_and_is_not_served(tmp_path):
    with ServerProcess("--data", str(tmp_path)) as server:
        *_, last = events(server.style.ReconstructStyle(style_request()))
        name = next(p for p in (tmp_path / "blobs").glob("*/*") if p.read_bytes() == last.result.image.data)
        name.write_bytes(last.result.image.data[:-10])
        wait_until(lambda: get(server, last.job_id).state == job_pb2.JOB_STATE_FAILED, "the damage to be noticed")
        assert "damaged" in get(server, last.job_id).error.message
        with pytest.raises(grpc.RpcError) as caught:
            list(server.jobs.DownloadResult(job_service_pb2.DownloadResultRequest(job_id=last.job_id)))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert picture(server, request(0, iterations=3))


@pytest.mark.usefixtures("needs_sqlite")
def test_a_damaged_database_does_not_keep_the_server_from_starting(tmp_path):
    with ServerProcess("--data", str(tmp_path)):
        pass
    (tmp_path / "jobs.sqlite").write_bytes(b"not a database" * 1000)
    with ServerProcess("--data", str(tmp_path)) as server:
        assert "damaged" in server.read_log()
        assert run(server, style_request()).iterations == 4


def test_a_job_continues_if_checkpoints_cannot_be_written(tmp_path):
    """A file in place of the folder fails for root too, unlike missing permissions."""
    with ServerProcess("--data", str(tmp_path), *FREQUENT_CHECKPOINTS) as server:
        # Before the job's first checkpoint: after a checkpoint that was slow to write, the next may be minutes away.
        (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
        (tmp_path / "checkpoints").write_text("a file")
        stream = events(server.style.ReconstructStyle(endless_request()))
        first = next(e for e in stream if e.HasField("progress"))
        wait_until(lambda: "a checkpoint could not be written" in server.read_log(), "the warning")
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=first.job_id))
        assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED
        assert is_healthy(server)


def get(server: ServerProcess, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job
