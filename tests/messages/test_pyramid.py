"""The levels of a pyramid, and the share of the time limit at which each ends."""

import pytest

from gramophone_server.messages.pyramid import end_of, levels_of
from gramophone_server.messages.spec import LevelSpec


def levels(side: int = 224, warm: str = "", sizes: int = 0) -> tuple[LevelSpec, ...]:
    return levels_of("style", "lbfgs", (side, side), 320, number=sizes, min_side=16, warm=warm)


def ends(warm: str) -> list[float]:
    planned = levels(warm=warm)
    return [16 * end_of(planned, number) for number in range(len(planned))]


def test_each_size_but_the_last_gets_an_eighth_of_the_time():
    assert ends("") == pytest.approx([2, 4, 16])


def test_the_small_model_gets_a_sixteenth_of_the_time_at_each_size_but_the_coarsest():
    assert ends("small") == pytest.approx([2, 3, 5, 6, 16])


@pytest.mark.parametrize("sizes", range(1, 9))
@pytest.mark.parametrize("warm", ["", "small"])
def test_the_last_level_keeps_an_eighth_of_the_iterations(sizes, warm):
    planned = levels(7168, warm, sizes)
    assert len({level.width for level in planned}) == sizes
    assert sum(level.iterations for level in planned) == 320
    assert planned[-1].iterations >= 40
    assert not planned[-1].model


@pytest.mark.parametrize(("sizes", "begins"), [(1, 1), (2, 1), (4, 3), (5, 4), (6, 4), (7, 2), (8, 0)])
def test_with_many_sizes_only_the_finest_ones_have_a_warm_start(sizes, begins):
    planned = levels(7168, "small", sizes)
    assert [level.width for level in planned if level.model] == [7168 >> n for n in reversed(range(begins))]
