"""Bounds on the bytes of requests that are under way: lanes of so many bytes, shared fairly."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .violations import BusyError

# Seconds that a reader has in any case, and how often it is looked whether somebody waits for its place.
_SURE, _LOOK = 0.25, 0.05

EVICTED = "the server is busy, and this request was slow to come; send it again"
"""Why a request was ended for the sake of another."""


@dataclass(eq=False)
class Place:
    """A call's part of a lane.

    Attributes:
        bytes: that it holds or may be about to hold.
        evicted: whether it was ended for the sake of another.
    """

    client: str
    number: int
    bytes: int
    since: float = 0.0
    evicted: bool = False
    deadline: asyncio.Timeout | None = None


class Lane:
    """A bound on the bytes of requests of one kind.

    A request that is being read counts with the most that it can be, later with what it is. A client has at most half
    of the lane. Of those that wait, the client with the fewest bytes comes first. While somebody waits, the request
    that has been read for longest is ended.

    Args:
        room: bytes of all requests.
        most: bytes of one request.
        patience: seconds in which a request has to come.

    Attributes:
        parsing: held by whoever parses a large request.
    """

    def __init__(self, room: int, most: int, patience: float) -> None:
        self._room = room
        self._most = most
        self._patience = patience
        self._held: Counter[str] = Counter()
        self._reading: set[Place] = set()
        self._waiting: list[tuple[Place, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self.parsing = asyncio.Lock()

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[Place]:
        """A place for a client's request, once there is one.

        Raises:
            BusyError: there is none within the lane's patience.
        """
        place = Place(client, next(self._numbers), self._most)
        await self._enter(place)
        try:
            yield place
        finally:
            self.shrink(place, 0)

    @asynccontextmanager
    async def reading(self, place: Place) -> AsyncIterator[None]:
        """For the length of the reading of a request.

        Raises:
            BusyError: it was ended for the sake of another.
            TimeoutError: it took too long.
        """
        loop = asyncio.get_running_loop()
        place.since = loop.time()
        self._reading.add(place)
        try:
            async with asyncio.timeout(self._patience) as place.deadline:
                yield
        except TimeoutError:
            if not place.evicted:
                raise
            raise BusyError(EVICTED, 1.0) from None
        finally:
            self._reading.discard(place)

    def shrink(self, place: Place, size: int) -> None:
        """Has a place hold fewer bytes than before."""
        self._held[place.client] -= place.bytes - size
        if not self._held[place.client]:
            del self._held[place.client]
        place.bytes = size
        self._admit()

    async def _enter(self, place: Place) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((place, turn))
        self._admit()
        deadline = loop.time() + self._patience
        try:
            while not turn.done():
                if loop.time() > deadline:
                    raise BusyError("the server reads as many requests as it can at the moment", 1.0)
                self._evict(loop.time())
                await asyncio.wait([turn], timeout=_LOOK)
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.shrink(place, 0)
            raise
        finally:
            if (place, turn) in self._waiting:
                self._waiting.remove((place, turn))

    def _admit(self) -> None:
        for waiter in sorted(self._waiting, key=lambda w: (self._held[w[0].client], w[0].number)):
            place, turn = waiter
            total, own = self._held.total(), self._held[place.client]
            if total + place.bytes > self._room:
                return
            if own and own + place.bytes > self._room // 2:
                continue
            self._waiting.remove(waiter)
            self._held[place.client] += place.bytes
            turn.set_result(None)

    def _evict(self, now: float) -> None:
        oldest = min((p for p in self._reading if not p.evicted), key=lambda place: place.since, default=None)
        if oldest is not None and now - oldest.since > _SURE and oldest.deadline is not None:
            oldest.evicted = True
            oldest.deadline.reschedule(now)
