"""The Bystander passes on a server without an attack, and measures a front that is suspended."""

import os
import signal
import time

import pytest

from tests.harness import ServerProcess

from .bystander import WATCHED, Bystander


@pytest.mark.slow
@pytest.mark.alone
def test_all_limits_hold_without_an_attack():
    with ServerProcess(*WATCHED) as server:
        with Bystander(server) as client:
            time.sleep(2)
        client.check()
        assert len(client.report.seconds) > 20


@pytest.mark.slow
@pytest.mark.alone
def test_a_suspended_front_is_measured():
    with ServerProcess(*WATCHED) as server:
        with Bystander(server) as client:
            time.sleep(0.5)
            os.kill(server.process.pid, signal.SIGSTOP)
            time.sleep(1.5)
            os.kill(server.process.pid, signal.SIGCONT)
            time.sleep(0.5)
        assert client.report.stall > 1
        assert max(client.report.seconds) > 1
