"""What a step asks of a GPU: no mixed devices, no waits, and a bounded number of launches."""

import pytest

from .conftest import run_script


@pytest.fixture(scope="module")
def steps(built):
    return run_script(built, "steps")


def test_at_least_40_combinations_of_options_run_without_mixing_devices(steps):
    assert len(steps) >= 40


def test_no_step_waits_for_the_device_or_copies_from_the_host(steps):
    assert {str(step["options"]): step["waits"] for step in steps if step["waits"]} == {}


def test_a_report_waits_once(steps):
    assert {step["report"] for step in steps} == {1}


# Launches of a step at 96x96 pixels, 5 style layers: measured, with a tenth to spare.
MOST = {"lbfgs": 340, "adam": 220}


def test_a_usual_step_has_few_launches(steps):
    usual = [step for step in steps if set(step["options"]) == {"kind", "optimizer", "model"}]
    assert len(usual) == 12
    for step in usual:
        assert step["launches"] <= MOST[step["options"]["optimizer"]], step
