"""A database belongs to one data folder, and a folder's files to one database: no server takes another's jobs."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests import databases
from tests.harness import ServerProcess, endless_request, events, run, style_request, wait_until
from tests.marks import slow

from .recovery import ONE_THREAD, picture, request, undisturbed

State = job_pb2.JobState


@pytest.fixture
def database(tmp_path: Path, each_database: str) -> str:
    """Returns the URL of a database that is in no data folder."""
    return databases.of_folder(tmp_path / "unused") or f"sqlite:///{tmp_path / 'shared.sqlite'}"


def check_refused(why: str, *args: str) -> None:
    """Checks that a server fails to start within 10 seconds, with a message that matches `why` and no traceback."""
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=why) as caught:
        ServerProcess(*args)
    assert time.monotonic() - begun < 10
    assert "Traceback" not in str(caught.value)


def states(server: ServerProcess) -> list[int]:
    return [job.state for job in server.jobs.ListJobs(job_service_pb2.ListJobsRequest(order=cast(Any, 2))).jobs]


def wait_for(server: ServerProcess, job_id: str) -> job_pb2.JobEvent:
    return list(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)))[-1].event


def submit(server: ServerProcess, one: pb.ReconstructStyleRequest) -> str:
    """Submits a job that continues without its stream, and returns its id."""
    one.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    return next(events(server.style.ReconstructStyle(one))).job_id


def health(server: ServerProcess) -> int:
    stub = health_pb2_grpc.HealthStub(server.channel)
    return stub.Check(health_pb2.HealthCheckRequest()).status


@pytest.mark.slow
def test_a_second_server_takes_nothing_from_the_first(tmp_path, database):
    mine = ("--data", str(tmp_path / "mine"), "--database", database, "--grace", "1", *ONE_THREAD)
    other = ("--data", str(tmp_path / "other"), "--database", database)
    (expected,) = undisturbed([request(7, iterations=60)])
    with ServerProcess(*mine) as server:
        done = run(server, style_request(3))
        ids = [submit(server, request(7, iterations=60)), submit(server, request(8))]
        for _ in range(2):
            check_refused("belongs to the server of the folder .*mine on .* --take-database", *other)
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "mine", copy)
        check_refused("belongs to the server of the folder .*mine", "--data", str(copy), "--database", database)
        last = wait_for(server, ids[0])
        assert last.state == State.JOB_STATE_SUCCEEDED and last.result.image.data == expected
        assert wait_for(server, ids[1]).state == State.JOB_STATE_SUCCEEDED
        found = server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=ids[0])).job
        assert found.result.image.data == expected
        assert len(states(server)) == 3
        assert done.image.data


def test_one_of_several_servers_that_start_together_gets_an_empty_database(tmp_path, database):
    def start(number: int) -> ServerProcess | str:
        try:
            return ServerProcess(
                "--data", str(tmp_path / str(number)), "--database", database, "--grace", "1", *ONE_THREAD
            )
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(start, range(3)))
    serving = [one for one in results if isinstance(one, ServerProcess)]
    try:
        assert len(serving) == 1
        assert all("belongs to" in one for one in results if isinstance(one, str))
        assert run(serving[0], style_request()).iterations == 4
    finally:
        for server in serving:
            server.__exit__(None, None, None)


@pytest.mark.slow
def test_only_the_new_server_writes_to_a_database_that_it_took_over(tmp_path, database):
    mine = ("--data", str(tmp_path / "mine"), "--database", database, "--grace", "1", *ONE_THREAD)
    other = ("--data", str(tmp_path / "other"), "--database", database, "--grace", "1", *ONE_THREAD)
    with ServerProcess(*mine) as old:
        submit(old, endless_request())
        run_id = submit(old, style_request(1))
        old.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=run_id))
        with ServerProcess(*other, "--take-database") as new:
            assert "is taken from the server of" in new.read_log()
            with pytest.raises(grpc.RpcError) as caught:
                list(old.style.ReconstructStyle(style_request(2)))
            assert "taken over by another server" in caught.value.details()
            wait_until(
                lambda: health(old) == health_pb2.HealthCheckResponse.NOT_SERVING, "the old server to be unhealthy"
            )
            # The new server fails the job: the job's files are in the old server's folder.
            wait_until(lambda: states(new)[0] == State.JOB_STATE_FAILED, "the job to fail")
            before = states(new)
            time.sleep(1)
            assert states(new) == before == [State.JOB_STATE_FAILED, State.JOB_STATE_CANCELLED]
            assert picture(new, request(1, iterations=5))
    check_refused("belongs to the server of the folder .*other", *mine)
    with ServerProcess(*other) as again:
        assert len(states(again)) == 3


@pytest.mark.parametrize("wrong", ["another database", "the folder's own", "a new one"])
@pytest.mark.slow
def test_a_wrong_database_is_refused_and_no_file_is_removed(tmp_path, needs_sqlite, wrong):
    """A server removes files that have no row at its start; these files have rows in another database."""
    data = ("--data", str(tmp_path / "mine"), *ONE_THREAD)
    one, other = (("--database", f"sqlite:///{tmp_path / name}.sqlite") for name in ("one", "other"))
    right, given = {"another database": (one, other), "the folder's own": (one, ()), "a new one": ((), other)}[wrong]
    with ServerProcess(*data, *right) as server:
        run(server, style_request())
    files = sorted((tmp_path / "mine" / "blobs").glob("*/*"))
    check_refused("belong to jobs of", *data, *given)
    assert files and sorted((tmp_path / "mine" / "blobs").glob("*/*")) == files
    with ServerProcess(*data, *right) as server:
        assert states(server) == [State.JOB_STATE_SUCCEEDED]


@pytest.mark.slow
def test_a_copied_or_moved_folder_keeps_its_jobs(tmp_path, needs_sqlite):
    with ServerProcess("--data", str(tmp_path / "mine"), *ONE_THREAD) as server:
        run(server, style_request())
    shutil.copytree(tmp_path / "mine", tmp_path / "copy")
    (tmp_path / "mine").rename(tmp_path / "moved")
    for folder in ("copy", "moved"):
        with ServerProcess("--data", str(tmp_path / folder), *ONE_THREAD) as server:
            assert states(server) == [State.JOB_STATE_SUCCEEDED]


@pytest.mark.parametrize("url", ["nonsense", slow("foo://bar"), "postgresql+nodriver://a/b", slow("mysql+none://a/b")])
def test_an_invalid_database_url_is_refused(tmp_path, url):
    check_refused("the database cannot be used", "--data", str(tmp_path), "--database", url)
