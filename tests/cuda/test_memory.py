"""The memory of a GPU: the plan holds, and a history in the host's memory stays there."""

import pytest

from .conftest import run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(built):
    return run_script(built, "memory")


def test_a_history_in_the_hosts_memory_needs_what_was_planned(found):
    assert found["host_history"]
    assert found["peak"] <= 1.1 * found["planned"]


def test_a_step_copies_each_pair_four_times(found):
    """Two dot products and two sums read the pairs; the newest change of the gradient is read once more."""
    assert found["copied"] <= 4 * found["pairs"] + 2


def test_a_step_does_not_wait_for_its_copies(found):
    """The history is in pinned memory."""
    assert found["waits"] == {}


def test_a_resume_copies_no_pairs_to_the_device(found):
    assert found["resumed"] < 10
    assert found["held"] < 10
