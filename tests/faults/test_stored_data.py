"""Stored jobs and files survive unreadable records, damaged files and a clock that jumps."""

import hashlib
import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from google.rpc import code_pb2

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.storage.database import jobs as job_rows
from gramophone_server.storage.database import open_engine
from tests import databases
from tests.harness import ServerProcess, events, options, png, run, style_request, wait_until

from .recovery import ONE_THREAD

State = job_pb2.JobState


def get(server: ServerProcess, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job


def listed(server: ServerProcess) -> dict[str, int]:
    return {job.id: job.state for job in server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs}


def painted(server: ServerProcess, request: pb.ReconstructStyleRequest) -> job_pb2.JobEvent:
    return list(events(server.style.ReconstructStyle(request)))[-1]


def uploaded(server: ServerProcess, data: bytes) -> str:
    """Uploads a file as the SDK does, and returns its SHA-256."""
    name = hashlib.sha256(data).hexdigest()
    pieces = [job_service_pb2.UploadImageRequest(sha256=name), job_service_pb2.UploadImageRequest(data=data)]
    answer = server.jobs.UploadImage(iter(pieces))
    assert (answer.sha256, answer.size) == (name, len(data))
    return name


def request_with_upload(name: str) -> pb.ReconstructStyleRequest:
    source = options_pb2.StyleSource(image=options_pb2.InputImage(sha256=name))
    return pb.ReconstructStyleRequest(styles=[source], options=options())


def change_spec(folder: Path, job_id: str, change: Callable[[dict[str, object]], object]) -> None:
    engine = open_engine(databases.of_folder(folder) or f"sqlite:///{folder / 'jobs.sqlite'}")
    with engine.begin() as connection:
        mine = job_rows.c.id == job_id
        spec = json.loads(connection.execute(sa.select(job_rows.c.spec).where(mine)).scalar_one())
        change(spec)
        connection.execute(job_rows.update().where(mine).values(spec=json.dumps(spec)))
    engine.dispose()


@pytest.mark.usefixtures("each_database")
@pytest.mark.slow
def test_an_unreadable_record_affects_only_its_job(tmp_path):
    data = ("--data", str(tmp_path), *ONE_THREAD)
    with ServerProcess(*data) as server:
        ended, other = painted(server, style_request()).job_id, painted(server, style_request(1)).job_id
        waiting = style_request(iterations=1_000_000, report_every=10)
        waiting.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
        streams = [server.style.ReconstructStyle(waiting) for _ in range(2)]
        running, queued = (next(events(stream)).job_id for stream in streams)
    for job_id in (ended, queued):
        change_spec(tmp_path, job_id, lambda spec: spec.pop("style_weight"))
    change_spec(tmp_path, running, lambda spec: spec.update(grain=3))
    with ServerProcess(*data) as server:
        failed, succeeded = State.JOB_STATE_FAILED, State.JOB_STATE_SUCCEEDED
        assert listed(server) == {ended: succeeded, other: succeeded, running: failed, queued: failed}
        assert get(server, ended).result.image.data
        for job_id, what in ((running, "grain"), (queued, "style_weight")):
            job = get(server, job_id)
            assert job.error.code == code_pb2.DATA_LOSS and what in job.error.message
            seen = list(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)))
            assert seen[-1].event.state == failed
            server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        assert painted(server, style_request()).state == succeeded
        for job_id in (ended, queued):
            server.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=job_id))
        assert ended not in listed(server) and other in listed(server)
        assert len(re.findall("cannot be read", server.read_log())) == 3
        assert "Traceback" not in server.read_log()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


def replace_its_folder_by_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


def point_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a folder": replace_by_a_folder,
    "a dangling link": point_nowhere,
    "its folder gone": lambda path: shutil.rmtree(path.parent),
    "its folder a file": replace_its_folder_by_a_file,
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[tuple[ServerProcess, Path]]:
    """(server with metrics, its data folder)."""
    folder = tmp_path_factory.mktemp("watched")
    with ServerProcess("--data", str(folder), "--metrics-port", "0", *ONE_THREAD) as server:
        yield server, folder


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_repaired_by_the_next_upload_or_request(watched, how):
    server, folder = watched
    data = png(seed=100 + list(DAMAGE).index(how))
    request = style_request(100 + list(DAMAGE).index(how))
    name = uploaded(server, data)
    expected = painted(server, request).result.image.data
    known = set((folder / "blobs").glob("*/*"))
    (pixels,) = (path for path in known if path.stat().st_size == 3 * 32 * 32)
    upload = folder / "blobs" / name[:2] / name
    for path in (upload, pixels):
        DAMAGE[how](path)
    with pytest.raises(grpc.RpcError) as caught:
        painted(server, request_with_upload(name))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "upload it first" in caught.value.details()
    assert uploaded(server, data) == name
    assert upload.read_bytes() == data
    assert painted(server, request_with_upload(name)).result.image.data == expected
    assert hashlib.sha256(pixels.read_bytes()).hexdigest() == pixels.name
    assert painted(server, request).result.image.data == expected
    assert f"the file {name} is repaired" in server.read_log()
    assert value(server, "gramophone_blobs_damaged_total") >= value(server, "gramophone_blobs_repaired_total") > 0
    pixels.unlink()


def value(server: ServerProcess, name: str) -> float:
    (address,) = set(re.findall(r"http://\S+/metrics", server.read_log()))
    with urllib.request.urlopen(address) as answer:
        return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)[1])  # type: ignore[index]


@pytest.mark.slow
def test_damaged_results_affect_only_their_jobs(tmp_path):
    """Also at a restart, which removes files that belong to no job."""
    data = ("--data", str(tmp_path), *ONE_THREAD)
    found: dict[str, str] = {}
    with ServerProcess(*data) as server:
        for seed, how in enumerate(DAMAGE):
            last = painted(server, style_request(seed))
            result = hashlib.sha256(last.result.image.data).hexdigest()
            found[last.job_id] = how
            DAMAGE[how](tmp_path / "blobs" / result[:2] / result)
        stray = tmp_path / "blobs" / "zz" / "folder"
        stray.mkdir(parents=True)
        whole = painted(server, style_request(50)).job_id
    with ServerProcess(*data) as server:
        for job_id in found:
            job = get(server, job_id)
            assert (job.state, job.error.code) == (State.JOB_STATE_FAILED, code_pb2.DATA_LOSS), found[job_id]
        assert get(server, whole).result.image.data
        for job_id in found:
            server.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=job_id))
        assert set(listed(server)) == {whole}
        wait_until(lambda: not stray.exists(), "the folder to be removed")
        assert "Traceback" not in server.read_log()


@pytest.fixture
def clock(monkeypatch, tmp_path) -> Callable[[int], None]:
    """Returns a function that sets the clock of servers so many days ahead, also while they run."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if library is None:
        pytest.skip("libfaketime is not installed: on Debian, `apt-get install libfaketime`")
    ahead = tmp_path / "ahead"
    ahead.write_text("+0d\n")
    for name, text in (
        ("LD_PRELOAD", str(library)),
        ("FAKETIME_TIMESTAMP_FILE", str(ahead)),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ):
        monkeypatch.setenv(name, text)

    def set_ahead(days: int) -> None:
        fresh = ahead.with_name("fresh")
        fresh.write_text(f"{days:+}d\n")
        os.replace(fresh, ahead)

    return set_ahead


@pytest.mark.slow
def test_a_clock_that_jumps_ahead_does_not_expire_jobs(tmp_path, clock, long):
    data = ("--data", str(tmp_path / "data"), *ONE_THREAD)
    picture = png(seed=9)
    with ServerProcess(*data) as server:
        before = painted(server, style_request()).job_id
        name = uploaded(server, picture)
        clock(31)
        after = painted(server, style_request(1)).job_id
        seconds = get(server, after).create_time.seconds - get(server, before).create_time.seconds
        assert seconds > 30 * 24 * 3600
        if long:
            time.sleep(65)
        assert set(listed(server)) == {before, after}
    with ServerProcess(*data) as server:
        wait_until(lambda: "hours ahead" in server.read_log(), "the server to notice the clock")
        assert set(listed(server)) == {before, after}
        assert painted(server, request_with_upload(name)).state == State.JOB_STATE_SUCCEEDED
        clock(0)
        again = painted(server, style_request(2)).job_id
        last = get(server, again)
        assert last.state == State.JOB_STATE_SUCCEEDED
        assert last.result.timings.queued.ToNanoseconds() >= 0
        ids = list(listed(server))
        # The list has the newest job first by the order of submission, not by the clock.
        assert ids == sorted(ids, reverse=True) and ids[0] == again
    with ServerProcess(*data) as server:
        assert len(listed(server)) == 4
        assert run(server, style_request(3)).iterations == 4
