"""Jobs on two GPUs: no tensor on the wrong one, no wait of the host, work for both, and failures as on one."""

import pytest

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
