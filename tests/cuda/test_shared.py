"""Jobs that share a GPU: their evaluations and the rest of their updates are recorded apart, and nothing waits."""

import pytest

from .conftest import run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def steps(built):
    return run_script(built, "shared_steps")


def test_jobs_in_threads_of_their_own_record_their_updates(built):
    found = run_script(built, "shared")
    assert found["eager"]["updates"] == found["recorded"]["updates"] == [60] * 3
    assert not [line for line in found["told"] if "without a CUDA graph" in line]
    assert found["eager"]["graphs"] == 0
    # After the first updates, a graph for each, and one for each batch of evaluations.
    assert 0.7 < found["recorded"]["graphs"] < 2
    assert found["recorded"]["launches"] < found["eager"]["launches"] / 3


def test_steps_of_jobs_that_share_a_gpu_do_not_wait_for_it(steps):
    assert len(steps) == 12
    assert [step for step in steps if step["waits"]] == []


def test_a_batch_needs_fewer_launches_than_its_jobs_alone(steps):
    counts = {(str(s["options"]), s["jobs"]): s["launches"] for s in steps}
    for (options, jobs), launches in counts.items():
        if jobs == 3 and "tile_size" not in options:
            assert launches < 0.75 * counts[options, 1], options
