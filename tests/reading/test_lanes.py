"""Lanes: bounded memory for requests being received, shared between clients, and not blocked by slow clients."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gramophone_server.reading.lanes import Lane
from gramophone_server.rpc.violations import BusyError


class Reader:
    """A request of `size` bytes: it is received when `received` is set, and processed when `processed` is set.

    Attributes:
        admitted: whether the lane has admitted the request.
    """

    def __init__(self, lane: Lane, client: str, size: int = 10) -> None:
        self.received, self.processed, self.admitted = asyncio.Event(), asyncio.Event(), False
        self.task = asyncio.create_task(self._run(lane, client, size))

    async def _run(self, lane: Lane, client: str, size: int) -> None:
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(lane.place(client))
            self.admitted = True
            async with lane.reading(place):
                await self.received.wait()
            lane.shrink(place, size)
            await self.processed.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_client_gets_at_most_half_of_the_lane():
    lane = Lane(400, 100, 10)
    readers = [Reader(lane, client) for client in "aaabbbc"]
    await settle()
    assert [reader.admitted for reader in readers] == [True, True, False, True, True, False, False]
    # A received request reserves only its own size.
    readers[0].received.set()
    readers[1].received.set()
    await settle()
    assert [reader.admitted for reader in readers] == [True, True, False, True, True, False, True]
    for reader in readers:
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
    assert not lane._held


async def test_the_slowest_request_is_aborted_while_another_waits():
    lane = Lane(200, 100, 10)
    slow = [Reader(lane, client) for client in "ab"]
    await settle()
    late = Reader(lane, "c")
    await asyncio.wait([slow[0].task, slow[1].task], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    with pytest.raises(BusyError, match="slow to come"):
        await slow[0].task
    await settle()
    assert late.admitted
    assert not slow[1].task.done()
    for reader in (slow[1], late):
        reader.task.cancel()


async def test_a_slow_request_is_aborted_at_the_timeout_if_none_waits():
    lane = Lane(200, 100, 0.8)
    slow = Reader(lane, "a")
    await asyncio.sleep(0.5)
    assert not slow.task.done()
    with pytest.raises(TimeoutError):
        await slow.task


async def test_a_cancelled_waiter_reserves_nothing():
    lane = Lane(100, 100, 10)
    first = Reader(lane, "a")
    await settle()
    second = Reader(lane, "b")
    await settle()
    second.task.cancel()
    await settle()
    first.received.set()
    first.processed.set()
    await first.task
    third = Reader(lane, "c")
    await settle()
    assert third.admitted
    third.task.cancel()
    await asyncio.gather(third.task, return_exceptions=True)
    assert not lane._held


async def test_a_waiter_is_refused_when_all_requests_are_being_processed():
    lane = Lane(100, 100, 0.3)
    first = Reader(lane, "a", size=100)
    await settle()
    first.received.set()
    await settle()
    with pytest.raises(BusyError, match="as many requests as it can"):
        await Reader(lane, "b").task
    first.processed.set()
    await first.task


async def test_slow_clients_are_admitted_last_and_get_at_most_half():
    lane = Lane(400, 100, 10)
    slow = [Reader(lane, client) for client in "abcd"]
    await settle()
    more = [Reader(lane, client) for client in "abcd"]
    await asyncio.wait([reader.task for reader in slow], timeout=5)
    assert sum(reader.task.done() for reader in slow) == 4
    await settle()
    # Two slow clients are admitted again; the other half is kept for other clients.
    assert sum(reader.admitted for reader in more) == 2
    good = Reader(lane, "e")
    await settle()
    assert good.admitted
    for reader in (*more, good):
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in (*slow, *more, good)), return_exceptions=True)


async def test_the_client_with_most_waiting_requests_is_refused_when_too_many_wait(monkeypatch):
    monkeypatch.setattr("gramophone_server.reading.lanes._MOST_WAITING", 4)
    lane = Lane(100, 100, 10)
    readers = [Reader(lane, client) for client in "xaaaa"]
    await settle()
    late = Reader(lane, "b")
    await settle()
    with pytest.raises(BusyError, match="as many requests as it can"):
        await readers[-1].task
    assert not late.task.done()
    for reader in (*readers, late):
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in (*readers, late)), return_exceptions=True)
