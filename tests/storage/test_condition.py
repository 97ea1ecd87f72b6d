"""When the storage counts as good, and who is told."""

import asyncio
import time

import pytest

from gramophone_server.storage.condition import StorageCondition
from gramophone_server.storage.errors import StorageAwayError, Trouble

AWAY, FULL = Trouble("it is away"), Trouble("no space", full=True)


async def test_it_is_tried_until_it_can_be_used():
    failures = [OSError(5, "first"), OSError(5, "second")]
    heard: list[Trouble | None] = []

    async def recover() -> None:
        if failures:
            raise failures.pop(0)

    condition = StorageCondition(recover)
    condition.listen(heard.append)
    await condition.good()
    condition.report(AWAY)
    assert condition.trouble == AWAY
    async with asyncio.timeout(5):
        await condition.good()
    assert heard == [AWAY, Trouble("first"), Trouble("second"), None]
    condition.report(AWAY)
    async with asyncio.timeout(5):
        await condition.good()


async def test_what_is_reported_during_an_attempt_needs_another():
    attempts = 0

    async def recover() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            condition.report(AWAY)

    condition = StorageCondition(recover)
    condition.report(AWAY)
    async with asyncio.timeout(5):
        await condition.good()
    assert attempts == 2


async def test_a_mistake_in_putting_right_does_not_end_the_attempts():
    failures = [ValueError("a mistake")]

    async def recover() -> None:
        if failures:
            raise failures.pop(0)

    condition = StorageCondition(recover)
    condition.report(AWAY)
    async with asyncio.timeout(5):
        await condition.good()


async def test_a_call_waits_for_a_moment_and_not_for_long(monkeypatch):
    over = asyncio.Event()

    async def recover() -> None:
        await over.wait()

    condition = StorageCondition(recover)
    condition.report(AWAY)
    condition.check(brief=False)
    begun = time.monotonic()
    with pytest.raises(StorageAwayError, match="it is away"):
        await condition.good_soon(time.monotonic() + 0.2)
    assert 0.1 < time.monotonic() - begun < 1
    monkeypatch.setattr("gramophone_server.storage.condition._BRIEF", 0.0)
    begun = time.monotonic()
    with pytest.raises(StorageAwayError):
        await condition.good_soon(time.monotonic() + 10)
    assert time.monotonic() - begun < 1
    with pytest.raises(StorageAwayError):
        condition.check(brief=False)
    waiting = asyncio.create_task(condition.good_soon(time.monotonic() + 10))
    over.set()
    await asyncio.gather(waiting, return_exceptions=True)
    await condition.good()
    await condition.good_soon(0)
    condition.close()


async def test_without_room_it_can_be_read():
    async def recover() -> None:
        raise OSError(28, "no space")

    condition = StorageCondition(recover)
    condition.report(FULL)
    assert condition.away is None
    condition.check()
    await condition.good_soon(0)
    condition.close()
