"""The levels of a pyramid, and the share of the time limit at which each ends."""

import pytest

from gramophone_server.messages.pyramid import end_of, levels_of
from gramophone_server.messages.spec import LevelSpec


def levels(side: int = 224, warm: str = "", sizes: int = 0) -> tuple[LevelSpec, ...]:
    return levels_of("style", "lbfgs", (side, side), 320, number=sizes, min_side=16, warm=warm)


@pytest.mark.parametrize(("warm", "expected"), [("", [1, 2, 8]), ("small", [1, 2, 3, 8])])
def test_each_level_but_the_last_gets_an_eighth_of_the_time(warm, expected):
    planned = levels(warm=warm)
    assert [8 * end_of(planned, number) for number in range(len(planned))] == pytest.approx(expected)


@pytest.mark.parametrize("sizes", range(1, 9))
@pytest.mark.parametrize("warm", ["", "small"])
def test_the_last_level_keeps_an_eighth_of_the_iterations(sizes, warm):
    planned = levels(7168, warm, sizes)
    # A warm start adds a level of the last size: the coarsest of eight sizes is left out.
    assert len({level.width for level in planned}) == min(sizes, 7 if warm else 8)
    assert sum(level.iterations for level in planned) == 320
    assert planned[-1].iterations >= 40
    assert not planned[-1].model


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [(1, [(224, "small")]), (2, [(112, ""), (224, "small")]), (3, [(56, ""), (112, "small"), (224, "small")])],
)
def test_the_own_model_begins_and_the_small_one_runs_through_the_finer_sizes(sizes, expected):
    *before, last = levels(224, "small", sizes)
    assert [(level.width, level.model) for level in before] == expected
    assert {level.iterations for level in before} == {40}
    assert (last.width, last.model) == (224, "")


def test_a_job_of_few_iterations_has_one_level():
    assert levels_of("style", "lbfgs", (224, 224), 7, number=0, min_side=16, warm="small") == (LevelSpec(224, 224, 7),)


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [(8, [1, 1, 1, 5]), (32, [4, 7, 7, 14]), (90, [11, 19, 19, 41]), (150, [18, 20, 20, 92]), (300, [37, 37, 37, 189])],
)
def test_the_small_model_has_a_larger_share_of_short_jobs(iterations, expected):
    planned = levels_of("style", "lbfgs", (224, 224), iterations, number=3, min_side=16, warm="small")
    assert [level.iterations for level in planned] == expected
