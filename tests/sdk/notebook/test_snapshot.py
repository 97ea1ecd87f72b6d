"""The state of a job to display: its caption and its loss curve."""

import math
import re

import pytest

from gramophone.history import History
from gramophone.notebook.snapshot import HEIGHT, WIDTH, Snapshot, curve
from gramophone.v1 import job_pb2


def points(path: str) -> list[tuple[float, float]]:
    """Returns the points of an SVG path of straight lines."""
    assert re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)*", path)
    return [tuple(map(float, pair.split())) for pair in re.split("[ML]", path)[1:]]  # type: ignore[misc]


def history_of(*losses: float, state: int = job_pb2.JOB_STATE_RUNNING) -> History:
    """Returns a history with a frame for every tenth iteration of 300."""
    history = History("ab" * 15)
    for number, loss in enumerate(losses, 1):
        progress = job_pb2.Progress(iteration=10 * number, iterations=300, loss=loss)
        progress.remaining.FromMilliseconds(4200)
        progress.elapsed.FromMilliseconds(1900)
        history.take(job_pb2.JobEvent(job_id="ab" * 15, sequence=number, state=state, progress=progress))  # type: ignore[arg-type]
    return history


def test_a_curve_has_a_logarithmic_axis_and_fills_its_box():
    drawn = points(curve([(10, 1000.0), (20, 100.0), (40, 10.0)]))
    assert drawn == [(0, 0), (pytest.approx(WIDTH / 3, abs=0.1), HEIGHT / 2), (WIDTH, HEIGHT)]


def test_losses_without_a_logarithm_are_left_out():
    assert points(curve([(0, 9.0), (1, math.nan), (2, 0.0), (3, math.inf), (4, 3.0)])) == [(0, 0), (WIDTH, HEIGHT)]
    assert curve([(0, 9.0), (1, math.nan)]) == curve([]) == ""


def test_a_constant_loss_is_a_level_line():
    assert {y for _, y in points(curve([(x, 5.0) for x in range(9)]))} == {0.0}


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    drawn = points(curve([(x, 1e6 / (x + 1)) for x in range(9999)]))
    assert len(drawn) <= 202
    assert (drawn[0], drawn[-1]) == ((0, 0), (WIDTH, HEIGHT))


def test_the_caption_says_the_state_the_iteration_the_loss_and_the_time_left():
    assert Snapshot.of(History("id")).caption == "queued"
    assert Snapshot.of(history_of(2e6, 1e6)).caption == "running · iteration 20 of 300 · loss 1e+06 · 4 s left"
    ended = Snapshot.of(history_of(5.0, state=job_pb2.JOB_STATE_CANCELLED))
    assert ended.ended and ended.caption == "cancelled · iteration 10 of 300 · loss 5 · 2 s"


def test_a_loss_that_is_not_finite_is_not_shown():
    snapshot = Snapshot.of(history_of(math.nan))
    assert snapshot.loss is None and "loss" not in snapshot.caption
