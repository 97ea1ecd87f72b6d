"""The order in which clients get slots to decode."""

import asyncio
from contextlib import AsyncExitStack

from gramophone_server.decoding.slots import SMALL, DecodeSlots


class Clients:
    """Clients that wait for a slot and hold it until `finish`."""

    def __init__(self, slots: DecodeSlots) -> None:
        self.slots = slots
        self.running: list[str] = []
        self._finish: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def request(self, name: str, memory: int = 1) -> asyncio.Task[None]:
        """Requests a slot under a name such as "a1"; the first letter is the client's name."""
        self._finish[name] = asyncio.Event()
        task = asyncio.create_task(self._hold_slot(name, memory))
        self._tasks.append(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def finish(self, name: str) -> None:
        """Frees the slot of that name."""
        self._finish[name].set()
        for _ in range(4):
            await asyncio.sleep(0)

    async def _hold_slot(self, name: str, memory: int) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.slots.hold(name[0], memory))
            self.running.append(name)
            await self._finish[name].wait()
            self.running.remove(name)


async def test_a_client_gets_at_most_all_slots_but_one():
    clients = Clients(DecodeSlots(3, 100 * SMALL))
    for name in ("a1", "a2", "a3", "b1"):
        await clients.request(name)
    assert clients.running == ["a1", "a2", "b1"]
    await clients.finish("b1")
    assert clients.running == ["a1", "a2"]
    await clients.finish("a1")
    assert clients.running == ["a2", "a3"]


async def test_the_client_with_the_fewest_slots_is_first():
    clients = Clients(DecodeSlots(2, 100 * SMALL))
    for name in ("a1", "b1", "a2", "a3", "c1"):
        await clients.request(name)
    await clients.finish("b1")
    assert clients.running == ["a1", "c1"]


async def test_large_pictures_leave_a_slot_for_small_pictures_and_share_the_memory():
    clients = Clients(DecodeSlots(4, 5 * SMALL))
    for name, memory in (("a1", 3 * SMALL), ("b1", 3 * SMALL), ("c1", 2 * SMALL), ("d1", 1)):
        await clients.request(name, memory)
    # b1 does not fit beside a1; c1 would fit, but must not overtake b1.
    assert clients.running == ["a1", "d1"]
    await clients.finish("a1")
    assert clients.running == ["d1", "b1", "c1"]


async def test_a_cancelled_waiter_is_removed():
    clients = Clients(DecodeSlots(2, 100 * SMALL))
    await clients.request("a1")
    waiting = await clients.request("a2")
    waiting.cancel()
    await asyncio.sleep(0)
    await clients.request("a3")
    await clients.finish("a1")
    assert clients.running == ["a3"]
