"""The server opens data folders of earlier versions and finishes their jobs; see fixtures/README.md."""

import json
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gramophone.v1 import job_pb2, job_service_pb2
from gramophone_server.messages.events import State
from gramophone_server.storage.query import Query
from gramophone_server.storage.quotas import Retention
from tests.harness import ServerProcess, events
from tests.marks import slow

from .stores import opened, pixels_of

pytestmark = pytest.mark.usefixtures("needs_sqlite")

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.zip"))
HUNDRED_YEARS = "36500"


# The tests with the first and the latest version are quick tests, those with the versions between are slow tests.
@pytest.fixture(params=[name if name in ("53dfece", "fc0f699") else slow(name) for name in NAMES])
def folder(request, tmp_path) -> Path:
    return unpacked(request.param, tmp_path)


def unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(FIXTURES / f"{name}.zip") as file:
        file.extractall(folder)
    return folder


@contextmanager
def rows_of(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens the database of a folder, and commits changes at the end."""
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        with connection:
            yield connection


def states(folder: Path) -> dict[str, str]:
    with rows_of(folder) as connection:
        return {row["id"]: row["state"] for row in connection.execute("SELECT id, state FROM jobs")}


def listed(server: ServerProcess) -> dict[str, job_pb2.Job]:
    return {job.id: job for job in server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs}


def fetched(server: ServerProcess, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job


def watched(server: ServerProcess, job_id: str) -> list[job_pb2.JobEvent]:
    """Waits for the end of a job and returns its events."""
    return list(events(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))))


def test_the_fixture_has_jobs_in_all_states(folder):
    assert set(states(folder).values()) == {state.value for state in State}
    assert len(list((folder / "checkpoints").iterdir())) == 2


@pytest.mark.service
def test_unfinished_jobs_succeed_and_ended_jobs_are_unchanged(folder):
    before = states(folder)
    with ServerProcess("--data", str(folder), "--threads", "1", "--keep-days", HUNDRED_YEARS) as server:
        assert set(listed(server)) == set(before)
        for job_id, state in before.items():
            history = watched(server, job_id)
            job = fetched(server, job_id)
            expected = "succeeded" if state in ("queued", "running") else state
            assert job_pb2.JobState.Name(job.state) == f"JOB_STATE_{expected.upper()}", job.error
            check_end(job, folder)
            assert history[-1].state == job.state
            server.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=job_id))
        assert listed(server) == {}


def check_end(job: job_pb2.Job, folder: Path) -> None:
    """Checks that a succeeded job has its result and its recipe, and a failed job its reason."""
    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        recipe = json.loads(job.result.recipe_json)
        assert recipe["kind"] in ("style", "content", "transfer")
        assert job.result.image.data in {path.read_bytes() for path in (folder / "blobs").glob("*/*")}
        assert job.result.iterations == recipe["iterations"]
    elif job.state == job_pb2.JOB_STATE_FAILED:
        assert "killed by signal 9" in job.error.message


async def test_all_specs_are_read_completely(folder):
    async with opened(folder, retention=Retention(1e12)) as (store, unfinished):
        found = await store.find(Query(100))
        assert {job.id for job in unfinished} == {job.id for job in found if not job.state.final}
        assert {job.spec.kind for job in unfinished} == {"style", "content", "transfer"}
        for job in found:
            assert job.spec.options.iterations > 0
            assert pixels_of(store, job) if job.spec.styles else job.spec.content is not None


@pytest.mark.parametrize(("name", "paced"), [("53dfece", {False}), ("d22920f", {False, True})])
async def test_paced_jobs_of_the_earliest_versions_are_read(name, paced, tmp_path):
    async with opened(unpacked(name, tmp_path)) as (_, unfinished):
        assert {job.spec.options.report_every == 0 for job in unfinished} == paced
        assert all(job.spec.options.report_every for job in unfinished if job.attempts)


@pytest.mark.service
def test_only_jobs_with_unreadable_rows_fail(tmp_path):
    """The server starts although rows of some jobs are invalid, and all other jobs are unchanged."""
    folder = unpacked(NAMES[-1], tmp_path)
    before = states(folder)
    waiting = [job_id for job_id, state in before.items() if state == "queued"]
    running = [job_id for job_id, state in before.items() if state == "running"]
    succeeded = [job_id for job_id, state in before.items() if state == "succeeded"]
    (failed,) = (job_id for job_id, state in before.items() if state == "failed")
    with rows_of(folder) as connection:
        connection.execute("UPDATE jobs SET spec = json_set(spec, '$.version', 99) WHERE id = ?", waiting[:1])
        connection.execute("UPDATE jobs SET kind = 'x', spec = json_set(spec, '$.kind', 'x') WHERE id = ?", running[:1])
        connection.execute("UPDATE jobs SET spec = CAST(x'7bff' AS TEXT) WHERE id = ?", running[1:])
        ends = "UPDATE events SET detail = ? WHERE job_id = ? AND detail IS NOT NULL AND state = ?"
        connection.execute(ends, ("{}", succeeded[0], "succeeded"))
        connection.execute(ends, ('{"code": "LATER", "message": "why"}', failed, "failed"))
        connection.execute("UPDATE events SET sequence = 'x' WHERE job_id = ? AND sequence = 1", running[:1])
        connection.execute("UPDATE blobs SET size = 'x' WHERE sha256 = (SELECT MIN(sha256) FROM blobs)")
    with ServerProcess("--data", str(folder), "--threads", "1", "--keep-days", HUNDRED_YEARS) as server:
        for job_id in before:
            watched(server, job_id)
        found = listed(server)
        assert set(found) == set(before)
        reasons = {job_id: job.error.message for job_id, job in found.items() if job.HasField("error")}
        assert set(reasons) == {waiting[0], *running, succeeded[0], failed}
        assert "version 99" in reasons[waiting[0]] and "later version" in reasons[waiting[0]]
        assert "its spec cannot be read" in reasons[running[0]] and "its spec cannot be read" in reasons[running[1]]
        assert "the job's end was lost or damaged" in reasons[succeeded[0]]
        assert reasons[failed] == "why"
        for job_id in reasons:
            assert fetched(server, job_id).error.message == reasons[job_id]
            server.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=job_id))
        assert set(listed(server)) == set(before) - set(reasons)
