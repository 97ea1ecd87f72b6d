"""A lost GPU is reported before the process ends, wherever the error occurs."""

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("where", ["block", "free", "autograd"])
def test_a_lost_device_is_reported(script, where):
    assert "illegal memory access" in script("guard", where)["reason"]


def test_other_errors_pass(script):
    assert script("guard", "other") == {"error": "the job's own"}
