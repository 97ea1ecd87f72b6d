"""Who decodes next."""

import asyncio
from contextlib import AsyncExitStack

from gramophone_server.decoding.turns import SMALL, Turns


class Crowd:
    """Clients that take turns and keep them until they are told to go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.running: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, name: str, memory: int = 1) -> asyncio.Task[None]:
        """One more of the client whose name is the first letter."""
        self._leave[name] = asyncio.Event()
        task = asyncio.create_task(self._one(name, memory))
        self._tasks.append(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        for _ in range(4):
            await asyncio.sleep(0)

    async def _one(self, name: str, memory: int) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.turns.one(name[0], memory))
            self.running.append(name)
            await self._leave[name].wait()
            self.running.remove(name)


async def test_a_client_has_all_places_but_one():
    crowd = Crowd(Turns(3, 100 * SMALL))
    for name in ("a1", "a2", "a3", "b1"):
        await crowd.come(name)
    assert crowd.running == ["a1", "a2", "b1"]
    await crowd.leave("b1")
    assert crowd.running == ["a1", "a2"]
    await crowd.leave("a1")
    assert crowd.running == ["a2", "a3"]


async def test_whoever_has_the_fewest_turns_comes_first():
    crowd = Crowd(Turns(2, 100 * SMALL))
    for name in ("a1", "b1", "a2", "a3", "c1"):
        await crowd.come(name)
    await crowd.leave("b1")
    assert crowd.running == ["a1", "c1"]


async def test_large_pictures_leave_a_place_for_small_ones_and_share_the_memory():
    crowd = Crowd(Turns(4, 5 * SMALL))
    for name, memory in (("a1", 3 * SMALL), ("b1", 3 * SMALL), ("c1", 2 * SMALL), ("d1", 1)):
        await crowd.come(name, memory)
    # b1 does not fit beside a1, and c1, which would, does not pass it by.
    assert crowd.running == ["a1", "d1"]
    await crowd.leave("a1")
    assert crowd.running == ["d1", "b1", "c1"]


async def test_one_that_leaves_while_it_waits_is_forgotten():
    crowd = Crowd(Turns(2, 100 * SMALL))
    await crowd.come("a1")
    waiting = await crowd.come("a2")
    waiting.cancel()
    await asyncio.sleep(0)
    await crowd.come("a3")
    await crowd.leave("a1")
    assert crowd.running == ["a3"]
