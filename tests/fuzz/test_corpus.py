"""Replays the inputs that fuzzing has found, and the inputs that it starts from."""

import pytest

from .targets import TARGETS, close, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_passes_all_inputs_of_its_corpus(target: str) -> None:
    count = 0
    try:
        for data in seeds(target):
            TARGETS[target](data)
            count += 1
    finally:
        close()
    assert count
