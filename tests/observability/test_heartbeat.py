"""Stalls of an event loop that is really held up."""

import asyncio
import time

from gramophone_server.observability.heartbeat import Heartbeat


async def test_the_longest_stall_is_measured():
    heart = Heartbeat()
    heart.start()
    await asyncio.sleep(0.1)
    time.sleep(0.3)  # noqa: ASYNC251 - this is the stall
    await asyncio.sleep(0.1)
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.1)
    assert 0.25 < heart.longest() < 3
    await heart.stop()


def test_what_is_long_ago_is_forgotten(monkeypatch):
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
