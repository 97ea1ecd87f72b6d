"""Marks of tests."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Returns a case of a parametrized test that `make slow` runs and `make test` does not."""
    return pytest.param(*values, marks=pytest.mark.slow)
