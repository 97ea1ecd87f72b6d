"""The measurement of stalls of an event loop."""

import asyncio
import time

from gramophone_server.observability.heartbeat import Heartbeat


async def test_the_longest_stall_is_measured():
    heart = Heartbeat()
    heart.start()
    await asyncio.sleep(0.1)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall to measure
    await asyncio.sleep(0.1)
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.1)
    assert 0.25 < heart.longest() < 3
    await heart.stop()


def test_old_stalls_are_forgotten(monkeypatch):
    heart = Heartbeat()
    now = [1000.0]
    monkeypatch.setattr("gramophone_server.observability.heartbeat.time.monotonic", lambda: now[0])
    for moment, stall in ((1000.0, 0.4), (1030.0, 0.1), (1050.0, 0.2)):
        heart._note(moment, stall)
    assert heart.longest() == 0.4
    now[0] = 1061.0
    assert heart.longest() == 0.2
    now[0] = 1111.0
    assert heart.longest() == 0.0
