"""That the bystander sees what it is there to see: nothing in peace, and a front that is held up."""

import os
import signal
import time

import pytest

from tests.harness import ServerProcess

from .bystander import WATCHED, Bystander


@pytest.mark.slow
def test_in_peace_all_bars_hold():
    with ServerProcess(*WATCHED) as server:
        with Bystander(server) as client:
            time.sleep(2)
        client.check()
        assert len(client.report.seconds) > 20


@pytest.mark.slow
def test_a_front_that_stands_still_is_seen():
    with ServerProcess(*WATCHED) as server:
        with Bystander(server) as client:
            time.sleep(0.5)
            os.kill(server.process.pid, signal.SIGSTOP)
            time.sleep(1.5)
            os.kill(server.process.pid, signal.SIGCONT)
            time.sleep(0.5)
        assert client.report.stall > 1
        assert max(client.report.seconds) > 1
