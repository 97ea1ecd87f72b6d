"""Schedules the decoding of pictures: fair among clients, and within a limit on the memory of all pictures."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

SMALL = 32 << 20
"""Maximum number of bytes of a small picture. Small pictures do not wait for large ones."""
# Bytes of all small pictures that are being decoded.
_SMALL_TOTAL = 2 * SMALL


@dataclass(frozen=True)
class _Waiter:
    client: str
    memory: int
    number: int
    turn: asyncio.Future[None]


class DecodeSlots:
    """Schedules decoding with a limited number of slots.

    One client, and all large pictures together, get at most `slots - 1`, so that one slot stays free for a small
    picture of another client. Of the waiting clients, the one with the fewest running decodes comes first.

    Args:
        slots: number of pictures that are decoded at once; at least 2.
        memory: bytes of all large pictures that are being decoded; must be enough for each single picture.
    """

    def __init__(self, slots: int, memory: int) -> None:
        self._slots = slots
        self._memory = memory
        self._running: Counter[str] = Counter()
        self._small = self._large = self._large_count = 0
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def hold(self, client: str, memory: int) -> AsyncIterator[None]:
        """Waits until a client may decode a picture of `memory` bytes; holds the slot for the length of the block."""
        waiter = _Waiter(client, memory, next(self._numbers), asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._admit()
        try:
            await waiter.turn
            yield
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self._count(waiter, -1)
            self._admit()

    def _admit(self) -> None:
        large_waits = False
        for waiter in sorted(self._waiting, key=lambda w: (self._running[w.client], w.number)):
            large = waiter.memory > SMALL
            # No large picture overtakes a large one that waits for memory.
            if waiter.turn.cancelled() or (large and large_waits) or not self._can_start(waiter):
                large_waits = large_waits or large
                continue
            self._waiting.remove(waiter)
            self._count(waiter, 1)
            waiter.turn.set_result(None)

    def _can_start(self, waiter: _Waiter) -> bool:
        if self._running.total() >= self._slots or self._running[waiter.client] >= self._slots - 1:
            return False
        if waiter.memory <= SMALL:
            return self._small + waiter.memory <= _SMALL_TOTAL
        return self._large_count < self._slots - 1 and self._large + waiter.memory <= self._memory

    def _count(self, waiter: _Waiter, change: int) -> None:
        self._running[waiter.client] += change
        if not self._running[waiter.client]:
            del self._running[waiter.client]
        if waiter.memory <= SMALL:
            self._small += change * waiter.memory
        else:
            self._large += change * waiter.memory
            self._large_count += change
