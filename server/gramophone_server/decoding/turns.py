"""Which picture is decoded next: clients in turn, within a bound on the memory of all pictures together."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

SMALL = 32 << 20
"""Bytes up to which a picture is small: small ones do not wait for large ones."""
_SMALL_TOGETHER = 2 * SMALL


@dataclass(frozen=True)
class _Waiter:
    client: str
    memory: int
    number: int
    turn: asyncio.Future[None]


class Turns:
    """Gives turns to decode.

    A client has all places but one at most, and large pictures have all but one together, so that there is always one
    for somebody else's small picture. Of those that wait, the client with the fewest turns comes first.

    Args:
        places: how many decode at once; 2 or more.
        memory: bytes of all large pictures that are being decoded; one alone has to fit.
    """

    def __init__(self, places: int, memory: int) -> None:
        self._places = places
        self._memory = memory
        self._running: Counter[str] = Counter()
        self._small = self._large = self._large_count = 0
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def one(self, client: str, memory: int) -> AsyncIterator[None]:
        """Waits for a turn of a client's to decode what takes so many bytes; it lasts as long as the block."""
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
            # A large one that waits for memory is not passed by another.
            if waiter.turn.cancelled() or (large and large_waits) or not self._may(waiter):
                large_waits = large_waits or large
                continue
            self._waiting.remove(waiter)
            self._count(waiter, 1)
            waiter.turn.set_result(None)

    def _may(self, waiter: _Waiter) -> bool:
        if self._running.total() >= self._places or self._running[waiter.client] >= self._places - 1:
            return False
        if waiter.memory <= SMALL:
            return self._small + waiter.memory <= _SMALL_TOGETHER
        return self._large_count < self._places - 1 and self._large + waiter.memory <= self._memory

    def _count(self, waiter: _Waiter, change: int) -> None:
        self._running[waiter.client] += change
        if not self._running[waiter.client]:
            del self._running[waiter.client]
        if waiter.memory <= SMALL:
            self._small += change * waiter.memory
        else:
            self._large += change * waiter.memory
            self._large_count += change
