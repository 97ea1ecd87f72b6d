"""Jobs on two GPUs: no tensor on the wrong one, no wait of the host, work for both, and failures as on one."""

import json

import pytest

from gramophone.v1 import job_pb2, job_service_pb2
from tests.cuda.servers import environment_of, run_until_failure
from tests.harness import ServerProcess

from .conftest import run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(built):
    return run_script(built, "devices", FAKECUDA_DEVICES="2")


def test_jobs_with_one_and_with_several_tiles_a_gpu_run_without_mixing_devices(found):
    assert len(found["jobs"]) >= 12


def test_no_step_waits_for_a_gpu_or_copies_from_the_host(found):
    assert [job for job in found["jobs"] if job["waits"]] == []


def test_both_gpus_get_tiles(found):
    for job in found["jobs"]:
        first, second = job["needed"]
        # The first one also has the canvas, the optimizer, and what follows the cut, which is much of a small picture.
        assert (0.1 if job["job"]["tile"] else 0.25) * first < second <= first, job


def test_a_gpu_without_memory_fails_the_job_as_a_single_one_does_and_the_next_job_runs(found):
    assert found["out_of_memory"] == "RESOURCE_EXHAUSTED"
    assert found["after"]


def test_a_server_paints_on_two_gpus_and_goes_on_after_one_is_lost(built, tmp_path, monkeypatch):
    file = tmp_path / "fail"
    own = {"FAKECUDA_FAIL": str(file), "FAKECUDA_DEVICES": "2"}
    for name, value in (environment_of(built) | own).items():
        monkeypatch.setenv(name, value)
    with ServerProcess("--device", "cuda:0+cuda:1", "--checkpoint-every", "0.2") as server:
        last = run_until_failure(server, file, "illegal_address 1", 1.0, size=512, iterations=150)
        (job,) = server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs
        log = server.read_log()
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    assert json.loads(last.result.recipe_json)["device"] == "cuda:0+cuda:1"
    assert job.attempts == 2, log
    assert "is lost, so the worker ends" in log
