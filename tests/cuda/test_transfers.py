"""Previews, losses and targets travel in pinned memory; only the reader of a copy waits for it."""

import pytest

from .conftest import run_script


@pytest.fixture(scope="module")
def found(built):
    return run_script(built, "previews")


def test_a_preview_begins_without_a_wait_and_a_step_follows(found):
    assert found["begun_sites"] == {}
    assert found["copies"] == ["cudaMemcpyAsync (pinned)"]


def test_the_reader_of_a_preview_waits_once(found):
    assert found["finished"] == {"sync": 1}
    assert found["shape"] == [96, 96, 3]


def test_the_losses_of_a_report_come_with_one_copy_and_one_wait(found):
    assert found["canvases"] == 1
    assert found["losses"] == [1, ["cudaMemcpyAsync (pinned)"]]


def test_targets_go_up_without_a_wait(found):
    assert found["targets"] == [0, ["cudaMemcpyAsync (pinned)"]]


def test_what_arrives_is_what_was_there(found):
    assert found["same"] and found["beside"]
