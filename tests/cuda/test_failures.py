"""What becomes of a job when CUDA fails."""

import pytest

from .conftest import run_script


@pytest.fixture(scope="module")
def found(built):
    return run_script(built, "failures")


@pytest.mark.parametrize(
    "kind", ["out_of_memory", "launch_out_of_memory", "cublas_alloc", "cudnn_alloc", "cufft_alloc"]
)
def test_each_spelling_of_no_memory_ends_as_no_memory(found, kind):
    assert found["failures"][kind]["code"] == "RESOURCE_EXHAUSTED", found["failures"][kind]


@pytest.mark.parametrize("kind", ["illegal_address", "launch_failure", "ecc", "no_kernel_image", "cublas_execution"])
def test_other_failures_are_internal(found, kind):
    assert found["failures"][kind]["code"] == "INTERNAL", found["failures"][kind]


@pytest.mark.parametrize("kind", ["out_of_memory", "launch_out_of_memory", "cublas_alloc", "cudnn_alloc"])
def test_no_memory_for_a_recording_costs_only_the_recording(found, kind):
    assert found["recording"][kind] == {"failed": True, "recorded": False, "iteration": 11}


def test_freed_memory_is_returned_to_the_device(found):
    assert found["kept"] < 64 << 20
