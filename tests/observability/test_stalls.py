"""The measurement of stalls of an event loop."""

import asyncio
import time

from gramophone_server.observability.stalls import StallMonitor


async def test_the_longest_stall_is_measured():
    monitor = StallMonitor()
    monitor.start()
    await asyncio.sleep(0.1)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall to measure
    await asyncio.sleep(0.1)
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.1)
    assert 0.25 < monitor.longest() < 3
    await monitor.stop()


def test_old_stalls_are_forgotten(monkeypatch):
    monitor = StallMonitor()
    now = [1000.0]
    monkeypatch.setattr("gramophone_server.observability.stalls.time.monotonic", lambda: now[0])
    for moment, stall in ((1000.0, 0.4), (1030.0, 0.1), (1050.0, 0.2)):
        monitor._note(moment, stall)
    assert monitor.longest() == 0.4
    now[0] = 1061.0
    assert monitor.longest() == 0.2
    now[0] = 1111.0
    assert monitor.longest() == 0.0
