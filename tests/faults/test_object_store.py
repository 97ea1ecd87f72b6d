"""Files of jobs in a real object store: the same pictures as with a folder, and nothing lost whatever goes away."""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import ServerProcess, events, png, run, style_request, wait_until
from tests.object_store import URL, ObjectServer

from .clusters import LEASE, ends, front, result_of
from .recovery import FREQUENT_CHECKPOINTS, request, undisturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
State = job_pb2.JobState
ITERATIONS = 400


@pytest.fixture
def objects(monkeypatch) -> Iterator[ObjectServer]:
    """An object store, which servers find by their environment."""
    with ObjectServer() as started:
        for name, value in started.variables().items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture(scope="module")
def expected() -> bytes:
    """The picture of `request(0, ITERATIONS)` from a server without an object store."""
    return undisturbed([request(0, ITERATIONS)])[0]


def server_of(folder: Path, *args: str) -> ServerProcess:
    return ServerProcess("--data", str(folder), "--files", URL, *FREQUENT_CHECKPOINTS, *args)


def submit(server, one) -> str:
    one.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    return next(events(server.style.ReconstructStyle(one))).job_id


def download(server, job_id: str, offset: int = 0) -> bytes:
    pieces = server.jobs.DownloadResult(job_service_pb2.DownloadResultRequest(job_id=job_id, offset=offset))
    return b"".join(piece.data for piece in pieces)


def newest(server) -> str:
    return server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs[0].id


def delete(server, job_id: str) -> None:
    server.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=job_id))


def upload(server, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    server.jobs.UploadImage(iter([job_service_pb2.UploadImageRequest(sha256=name, data=data)]))
    return name


def copies(folder: Path) -> list[Path]:
    """Returns the local copies of blobs."""
    return [path for path in (folder / "copies" / "blobs").glob("*/*") if path.is_file()]


def test_pictures_are_those_of_a_folder_and_survive_the_loss_of_the_copies(tmp_path, objects, expected):
    data = tmp_path / "data"
    with server_of(data) as server:
        name = upload(server, png())
        one = style_request()
        one.styles[0].image.CopyFrom(options_pb2.InputImage(sha256=name))
        assert run(server, one).image.data == run(server, style_request()).image.data
        job_id = submit(server, request(0, ITERATIONS))
        assert result_of(server, job_id) == expected
        environment = Path(f"/proc/{server.workers()[0].pid}/environ").read_bytes()
        assert b"AWS_SECRET_ACCESS_KEY" not in environment
        assert "two" not in server.read_log().split()
    for path in copies(data):
        path.unlink()
    with server_of(data) as server:
        assert download(server, job_id) == expected
        assert download(server, job_id, offset=100) == expected[100:]
        assert server.jobs.GetUpload(job_service_pb2.GetUploadRequest(sha256=name)).complete
        for path in copies(data):
            path.write_bytes(b"damaged")
        assert download(server, job_id) == expected


def test_deletions_and_evictions_leave_no_object(tmp_path, objects):
    with server_of(tmp_path, "--keep", "1MB") as server:
        run(server, style_request())
        assert objects.names("blobs")
        delete(server, newest(server))
        assert not objects.names("blobs")
        job_id = submit(server, request(0, 10**5))
        wait_until(lambda: bool(objects.names("checkpoints")), "a checkpoint in the object store")
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        wait_until(lambda: not objects.names("checkpoints"), "its deletion")
        delete(server, job_id)
        uploads = [png(512, 512, seed) for seed in range(7)]
        assert sum(map(len, uploads)) > 1e6
        names = [upload(server, data) for data in uploads]
        assert f"blobs/{names[0]}" not in objects.names("blobs")
        assert f"blobs/{names[-1]}" in objects.names("blobs")


def test_a_stray_object_is_removed_at_the_start(tmp_path, objects):
    with server_of(tmp_path) as server:
        run(server, style_request())
        kept = set(objects.names("blobs"))
        assert kept
    objects.write(f"blobs/{'0' * 64}", b"left by a write that was interrupted")
    objects.write("checkpoints/gone.7.pt", b"of a job that has ended")
    with server_of(tmp_path):
        wait_until(lambda: set(objects.names("blobs")) == kept, "the removal of the stray file")
        assert not objects.names("checkpoints")


def test_a_damaged_object_is_an_error_and_a_new_upload_repairs_it(tmp_path, objects):
    with server_of(tmp_path) as server:
        name = upload(server, png())
        run(server, style_request())
        job_id = newest(server)
        result = hashlib.sha256(download(server, job_id)).hexdigest()
    for path in copies(tmp_path):
        path.unlink()
    for damaged in (name, result):
        objects.write(f"blobs/{damaged}", b"damaged")
    with server_of(tmp_path) as server:
        last = list(events(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))))[-1]
        assert last.state == State.JOB_STATE_FAILED
        assert "is damaged" in last.error.message
        with pytest.raises(grpc.RpcError) as caught:
            server.jobs.GetUpload(job_service_pb2.GetUploadRequest(sha256=name))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        upload(server, png())
        assert server.jobs.GetUpload(job_service_pb2.GetUploadRequest(sha256=name)).complete
        assert hashlib.sha256(objects.client.cat_file(f"{URL}/blobs/{name}")).hexdigest() == name


def test_jobs_go_on_while_the_object_store_is_away(tmp_path, objects, expected):
    with server_of(tmp_path) as server:
        job_id = submit(server, request(0, ITERATIONS))
        wait_until(lambda: bool(objects.names("checkpoints")), "a checkpoint in the object store")
        with objects.away():
            with pytest.raises(grpc.RpcError) as caught:
                run(server, style_request(5))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "the object store of the files cannot be reached" in caught.value.details()
            wait_until(lambda: "the end of job" in server.read_log(), "the end of the job", timeout=120)
            job = server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job
            assert job.state == State.JOB_STATE_RUNNING
            time.sleep(3)
        assert result_of(server, job_id) == expected
        wait_until(lambda: "the storage can be used again" in server.read_log(), "the storage")
        assert run(server, style_request(5)).image.data


def test_a_job_resumes_from_the_copy_of_its_checkpoint(tmp_path, objects, postgres, expected):
    lost = tmp_path / "lost"
    server = server_of(lost, "--database", postgres.url, "--cluster", "--lease", str(LEASE))
    job_id = submit(server, request(0, ITERATIONS))
    wait_until(lambda: bool(objects.names("checkpoints")), "a checkpoint in the object store")
    # It must not end the job while the other front starts.
    os.kill(server.process.pid, signal.SIGSTOP)
    with front(tmp_path / "other", postgres.url, "--files", URL) as other:
        os.kill(server.process.pid, signal.SIGKILL)
        assert result_of(other, job_id) == expected
        assert ends(postgres.url) == {job_id: 1}
        assert "resumes at iteration" in other.read_log()
        wait_until(lambda: not objects.names("checkpoints"), "the deletion of the copies")
        delete(other, job_id)
        wait_until(lambda: not objects.names("blobs"), "the deletion of the pictures")
    server.__exit__(None, None, None)


def test_fronts_with_folders_of_their_own_serve_all_jobs_and_uploads(tmp_path, objects, postgres):
    with front(tmp_path / "one", postgres.url, "--files", URL) as one:
        with front(tmp_path / "other", postgres.url, "--files", URL) as other:
            name = upload(one, png())
            assert other.jobs.GetUpload(job_service_pb2.GetUploadRequest(sha256=name)).complete
            same = style_request()
            same.styles[0].image.CopyFrom(options_pb2.InputImage(sha256=name))
            made = run(other, same).image.data
            assert download(one, newest(one)) == made == download(other, newest(other))
            job_id = submit(one, request(0, 10**5))
            wait_until(lambda: bool(objects.names("checkpoints")), "a checkpoint in the object store")
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(60) == 0
            wait_until(lambda: "resumes at iteration" in other.read_log(), "the other front")
            other.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))


def test_a_server_refuses_files_of_another_database(tmp_path, objects):
    with server_of(tmp_path / "one") as server:
        run(server, style_request())
    names = objects.names()
    with pytest.raises(RuntimeError, match=f"the files in {URL} belong to jobs of another database"):
        server_of(tmp_path / "other")
    assert objects.names() == names


def test_a_start_without_access_or_bucket_says_what_to_correct(tmp_path, objects, monkeypatch):
    with pytest.raises(RuntimeError, match=r"the bucket of the files does not exist .*; correct --files"):
        ServerProcess("--data", str(tmp_path), "--files", "s3://missing-bucket/a")
    with ObjectServer(denies=True) as denying:
        monkeypatch.setenv("AWS_ENDPOINT_URL", denying.endpoint)
        with pytest.raises(RuntimeError, match=r"the object store denies the access to the files .*AWS_ACCESS_KEY_ID"):
            server_of(tmp_path)
