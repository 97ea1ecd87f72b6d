"""The condition of the storage: recovery attempts, calls that wait for it, and notification of listeners."""

import asyncio
import time

import pytest

from gramophone_server.storage.condition import StorageCondition
from gramophone_server.storage.errors import StorageAwayError, Trouble

AWAY, FULL = Trouble("it is away"), Trouble("no space", full=True)


async def test_recovery_is_tried_until_it_succeeds():
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


async def test_trouble_reported_during_a_recovery_causes_another_attempt():
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


async def test_an_unexpected_exception_does_not_end_the_attempts():
    failures = [ValueError("a mistake")]

    async def recover() -> None:
        if failures:
            raise failures.pop(0)

    condition = StorageCondition(recover)
    condition.report(AWAY)
    async with asyncio.timeout(5):
        await condition.good()


async def test_a_call_waits_only_briefly_for_the_storage(monkeypatch):
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


async def test_a_full_storage_can_be_read():
    async def recover() -> None:
        raise OSError(28, "no space")

    condition = StorageCondition(recover)
    condition.report(FULL)
    assert condition.away is None
    condition.check()
    await condition.good_soon(0)
    condition.close()
