"""Bytes of requests under way: bounded, shared, and not held by whoever is slow."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gramophone_server.reading.lanes import Lane
from gramophone_server.rpc.violations import BusyError


class Reader:
    """A request that is read until it is told that it has come."""

    def __init__(self, lane: Lane, client: str, size: int = 10) -> None:
        self.came, self.left, self.inside = asyncio.Event(), asyncio.Event(), False
        self.task = asyncio.create_task(self._run(lane, client, size))

    async def _run(self, lane: Lane, client: str, size: int) -> None:
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(lane.place(client))
            self.inside = True
            async with lane.reading(place):
                await self.came.wait()
            lane.shrink(place, size)
            await self.left.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_client_has_half_and_others_the_rest():
    lane = Lane(400, 100, 10)
    readers = [Reader(lane, client) for client in "aaabbbc"]
    await settle()
    assert [reader.inside for reader in readers] == [True, True, False, True, True, False, False]
    # What has come takes as much as it is.
    readers[0].came.set()
    readers[1].came.set()
    await settle()
    assert [reader.inside for reader in readers] == [True, True, False, True, True, False, True]
    for reader in readers:
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
    assert not lane._held


async def test_while_somebody_waits_the_slowest_is_ended():
    lane = Lane(200, 100, 10)
    slow = [Reader(lane, client) for client in "ab"]
    await settle()
    late = Reader(lane, "c")
    await asyncio.wait([slow[0].task, slow[1].task], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    with pytest.raises(BusyError, match="slow to come"):
        await slow[0].task
    await settle()
    assert late.inside
    assert not slow[1].task.done()
    for reader in (slow[1], late):
        reader.task.cancel()


async def test_without_pressure_a_slow_one_has_its_time_and_no_more():
    lane = Lane(200, 100, 0.8)
    slow = Reader(lane, "a")
    await asyncio.sleep(0.5)
    assert not slow.task.done()
    with pytest.raises(TimeoutError):
        await slow.task


async def test_whoever_gives_up_waiting_takes_nothing_along():
    lane = Lane(100, 100, 10)
    first = Reader(lane, "a")
    await settle()
    second = Reader(lane, "b")
    await settle()
    second.task.cancel()
    await settle()
    first.came.set()
    first.left.set()
    await first.task
    third = Reader(lane, "c")
    await settle()
    assert third.inside
    third.task.cancel()
    await asyncio.gather(third.task, return_exceptions=True)
    assert not lane._held


async def test_a_lane_whose_requests_are_all_at_work_says_so_in_the_end():
    lane = Lane(100, 100, 0.3)
    first = Reader(lane, "a", size=100)
    await settle()
    first.came.set()
    await settle()
    with pytest.raises(BusyError, match="as many requests as it can"):
        await Reader(lane, "b").task
    first.left.set()
    await first.task


async def test_clients_that_were_slow_come_last_and_leave_half_to_others():
    lane = Lane(400, 100, 10)
    slow = [Reader(lane, client) for client in "abcd"]
    await settle()
    more = [Reader(lane, client) for client in "abcd"]
    await asyncio.wait([reader.task for reader in slow], timeout=5)
    assert sum(reader.task.done() for reader in slow) == 4
    await settle()
    # Two of the slow are in again; there is always a place for somebody else.
    assert sum(reader.inside for reader in more) == 2
    good = Reader(lane, "e")
    await settle()
    assert good.inside
    for reader in (*more, good):
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in (*slow, *more, good)), return_exceptions=True)


async def test_of_very_many_the_greediest_is_refused(monkeypatch):
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
