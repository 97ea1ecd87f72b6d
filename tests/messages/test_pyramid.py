"""The share of the time limit at which each level of a pyramid ends."""

import pytest

from gramophone_server.messages.pyramid import end_of, levels_of


def ends(warm: str) -> list[float]:
    levels = levels_of("style", "lbfgs", (224, 224), 300, number=0, min_side=16, warm=warm)
    return [24 * end_of(levels, number) for number in range(len(levels))]


def test_each_size_but_the_last_gets_an_eighth():
    assert ends("") == pytest.approx([3, 6, 24])


def test_the_small_model_gets_the_first_third_of_the_eighth_of_each_size():
    assert ends("small") == pytest.approx([1, 3, 4, 6, 7, 24])
