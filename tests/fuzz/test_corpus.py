"""Replays what fuzzing has found, and what it begins with."""

import pytest

from .targets import TARGETS, close, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds(target: str) -> None:
    count = 0
    try:
        for data in seeds(target):
            TARGETS[target](data)
            count += 1
    finally:
        close()
    assert count
