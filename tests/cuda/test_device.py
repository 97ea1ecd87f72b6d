"""The device that computes nothing does what the other tests expect of it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FAKE = Path(__file__).parents[1] / "fake_cuda"


def test_the_fake_device_passes_its_own_checks(built):
    done = subprocess.run(
        [FAKE / "run", sys.executable, FAKE / "selftest.py"], env=built, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
