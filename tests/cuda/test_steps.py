"""What a step asks of a GPU: no mixed devices, no waits, and one launch, or a bounded number without a graph."""

import pytest

from .conftest import run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def steps(built):
    return run_script(built, "steps")


@pytest.fixture(scope="module")
def recorded(steps):
    return [step for step in steps if step["graphs"]]


@pytest.fixture(scope="module")
def eager(steps):
    return [step for step in steps if not step["graphs"]]


def test_at_least_40_combinations_of_options_run_without_mixing_devices(recorded, eager):
    assert len(recorded) == len(eager) >= 40
    assert [step["options"] for step in recorded] == [step["options"] for step in eager]


def test_the_combinations_cover_every_option_that_changes_a_step(recorded):
    seen = {name for step in recorded for name in step["options"]}
    assert seen >= {
        "kind", "optimizer", "model", "losses", "masked", "tile_size", "precision", "wrap", "color", "averaging",
        "transparent", "padding", "pooling", "tv_weight", "plateau", "outside",
    }  # fmt: skip


def test_no_step_waits_for_the_device_or_copies_from_the_host(steps):
    assert {str(step["options"]): step["waits"] for step in steps if step["waits"]} == {}


def test_a_report_waits_once(steps):
    assert {step["report"] for step in steps} == {1}


def test_every_step_is_one_launch_of_a_graph(recorded):
    assert {str(step["options"]): step["launches"] for step in recorded if step["launches"] != 1} == {}


def test_a_graph_does_the_work_of_a_step_and_copies_its_variables(recorded, eager):
    for one, other in zip(recorded, eager, strict=True):
        assert other["launches"] < one["nodes"] <= 1.25 * other["launches"] + 20, one["options"]


# Launches of a step at 96x96 pixels, 5 style layers: measured, with a tenth to spare.
MOST = {"lbfgs": 365, "adam": 232}


def test_a_usual_step_without_a_graph_has_few_launches(eager):
    usual = [step for step in eager if set(step["options"]) == {"kind", "optimizer", "model"}]
    assert len(usual) == 12
    for step in usual:
        assert step["launches"] <= MOST[step["options"]["optimizer"]], step


@pytest.mark.slow
def test_a_step_of_a_full_network_at_512_is_one_launch(built):
    found = {(step["optimizer"], step["graphs"]): step for step in run_script(built, "full_network")}
    assert found["lbfgs", True]["launches"] == found["adam", True]["launches"] == 1
    # Measured: 343 and 202.
    assert 300 < found["lbfgs", False]["launches"] <= 377
    assert 170 < found["adam", False]["launches"] <= 222
    assert all(step["waits"] == {} for step in found.values())
