"""Replays what fuzzing has found, and what it begins with."""

import pytest

from .targets import TARGETS, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds(target: str) -> None:
    count = 0
    for data in seeds(target):
        TARGETS[target](data)
        count += 1
    assert count
