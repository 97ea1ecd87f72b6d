"""Byte budgets: bounded memory for requests being received, shared between clients, not blocked by slow clients."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gramophone_server.reading.budgets import ByteBudget
from gramophone_server.rpc.violations import BusyError


class Reader:
    """A request of `size` bytes: it is received when `received` is set, and processed when `processed` is set.

    Attributes:
        admitted: whether the budget has admitted the request.
    """

    def __init__(self, budget: ByteBudget, client: str, size: int = 10) -> None:
        self.received, self.processed, self.admitted = asyncio.Event(), asyncio.Event(), False
        self.task = asyncio.create_task(self._run(budget, client, size))

    async def _run(self, budget: ByteBudget, client: str, size: int) -> None:
        async with AsyncExitStack() as stack:
            reservation = await stack.enter_async_context(budget.reserve(client))
            self.admitted = True
            async with budget.reading(reservation):
                await self.received.wait()
            budget.shrink(reservation, size)
            await self.processed.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_client_gets_at_most_half_of_the_budget():
    budget = ByteBudget(400, 100, 10)
    readers = [Reader(budget, client) for client in "aaabbbc"]
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
    assert not budget._held


async def test_the_slowest_request_is_evicted_while_another_waits():
    budget = ByteBudget(200, 100, 10)
    slow = [Reader(budget, client) for client in "ab"]
    await settle()
    late = Reader(budget, "c")
    await asyncio.wait([slow[0].task, slow[1].task], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    with pytest.raises(BusyError, match="arrived too slowly"):
        await slow[0].task
    await settle()
    assert late.admitted
    assert not slow[1].task.done()
    for reader in (slow[1], late):
        reader.task.cancel()


async def test_a_slow_request_is_aborted_at_the_timeout_if_none_waits():
    budget = ByteBudget(200, 100, 0.8)
    slow = Reader(budget, "a")
    await asyncio.sleep(0.5)
    assert not slow.task.done()
    with pytest.raises(TimeoutError):
        await slow.task


async def test_a_cancelled_waiter_reserves_nothing():
    budget = ByteBudget(100, 100, 10)
    first = Reader(budget, "a")
    await settle()
    second = Reader(budget, "b")
    await settle()
    second.task.cancel()
    await settle()
    first.received.set()
    first.processed.set()
    await first.task
    third = Reader(budget, "c")
    await settle()
    assert third.admitted
    third.task.cancel()
    await asyncio.gather(third.task, return_exceptions=True)
    assert not budget._held


async def test_a_waiter_is_refused_when_all_requests_are_being_processed():
    budget = ByteBudget(100, 100, 0.3)
    first = Reader(budget, "a", size=100)
    await settle()
    first.received.set()
    await settle()
    with pytest.raises(BusyError, match="as many requests as it can"):
        await Reader(budget, "b").task
    first.processed.set()
    await first.task


async def test_slow_clients_are_admitted_last_and_get_at_most_half():
    budget = ByteBudget(400, 100, 10)
    slow = [Reader(budget, client) for client in "abcd"]
    await settle()
    more = [Reader(budget, client) for client in "abcd"]
    await asyncio.wait([reader.task for reader in slow], timeout=5)
    assert sum(reader.task.done() for reader in slow) == 4
    await settle()
    # Two slow clients are admitted again; the other half is kept for other clients.
    assert sum(reader.admitted for reader in more) == 2
    good = Reader(budget, "e")
    await settle()
    assert good.admitted
    for reader in (*more, good):
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in (*slow, *more, good)), return_exceptions=True)


async def test_the_client_with_most_waiting_requests_is_refused_when_too_many_wait(monkeypatch):
    monkeypatch.setattr("gramophone_server.reading.budgets._MAX_WAITING", 4)
    budget = ByteBudget(100, 100, 10)
    readers = [Reader(budget, client) for client in "xaaaa"]
    await settle()
    late = Reader(budget, "b")
    await settle()
    with pytest.raises(BusyError, match="as many requests as it can"):
        await readers[-1].task
    assert not late.task.done()
    for reader in (*readers, late):
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in (*readers, late)), return_exceptions=True)
