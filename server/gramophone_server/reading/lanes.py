"""Bounds on the bytes of requests that are under way: lanes of so many bytes, shared fairly."""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..rpc.violations import BusyError

# Seconds that a reader has in any case, and how often it is looked whether somebody waits for its place.
_SURE, _LOOK = 0.25, 0.05
# Seconds for which a client counts as slow after a request of his was ended.
_REMEMBERED = 10.0
# Calls that wait for a place in a lane. Each may hold a window of what its client has sent, 64 KiB.
_MOST_WAITING = 512

EVICTED = "the server is busy, and this request was slow to come; send it again"
"""Why a request was ended for the sake of another."""
FULL = "the server reads as many requests as it can at the moment"
"""Why a request was not read."""


@dataclass(eq=False)
class Place:
    """A call's part of a lane.

    Attributes:
        number: rises with each.
        bytes: that it holds or may be about to hold.
        since: when its reading began, by the loop's clock; seconds.
        evicted: whether it was ended for the sake of another.
        deadline: by which it has to be read.
    """

    client: str
    number: int
    bytes: int
    since: float = 0.0
    evicted: bool = False
    deadline: asyncio.Timeout | None = None


@dataclass(eq=False)
class _Waiter:
    place: Place
    turn: asyncio.Future[None]
    until: float


class Lane:
    """A bound on the bytes of requests of one kind.

    A request that is being read counts with the most that it can be, later with what it is. A client has at most half
    of the lane. Of those that wait, the client with the fewest bytes comes first. While others wait, those requests are
    ended that have been read for longest. Clients of such requests come last for a while, and have half of the lane
    together.

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
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._slow: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self.parsing = asyncio.Lock()

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[Place]:
        """A place for a client's request, once there is one.

        Raises:
            BusyError: there is none within the lane's patience, or too many wait.
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
        place.since = asyncio.get_running_loop().time()
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
        waiter = _Waiter(place, loop.create_future(), loop.time() + self._patience)
        self._line_up(waiter)
        self._admit()
        if not waiter.turn.done() and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.shrink(place, 0)  # It was let in and went in the same moment.
            raise
        finally:
            self._step_out(waiter)

    def _line_up(self, waiter: _Waiter) -> None:
        """Has a call wait. If too many do, the last of the client that has the most is refused instead."""
        client = waiter.place.client
        if sum(map(len, self._waiting.values())) >= _MOST_WAITING:
            greediest = max(self._waiting, key=lambda name: len(self._waiting[name]))
            if len(self._waiting[greediest]) <= len(self._waiting.get(client, ())) + 1:
                raise BusyError(FULL, 1.0)
            self._refuse(self._waiting[greediest][-1])
        self._waiting.setdefault(client, deque()).append(waiter)

    def _step_out(self, waiter: _Waiter) -> None:
        line = self._waiting.get(waiter.place.client)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self._waiting[waiter.place.client]

    def _refuse(self, waiter: _Waiter) -> None:
        self._step_out(waiter)
        if not waiter.turn.done():
            waiter.turn.set_exception(BusyError(FULL, 1.0))

    def _admit(self) -> None:
        while (waiter := self._next()) is not None:
            self._step_out(waiter)
            if not waiter.turn.done():
                self._held[waiter.place.client] += waiter.place.bytes
                waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """Who comes next, if there is room."""
        room, half = self._room - self._held.total(), self._room // 2
        slow = {name for name in self._waiting if name in self._slow}
        may = [
            name
            for name in self._waiting
            # Nobody has more than half, but everybody one.
            if (not (held := self._held[name]) or held + self._most <= half)
            and room - (half if slow and name in slow else 0) >= self._most
        ]
        if not may:
            return None
        first = min(may, key=lambda name: (name in slow, self._held[name], self._waiting[name][0].place.number))
        return self._waiting[first][0]

    async def _look(self) -> None:
        """While somebody waits: ends who is slow, and refuses who has waited for too long."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            now = loop.time()
            for waiter in [line[0] for line in self._waiting.values() if line[0].until < now]:
                self._refuse(waiter)
            self._slow = {name: until for name, until in self._slow.items() if until > now}
            self._admit()
            self._evict(now)
            await asyncio.sleep(_LOOK)

    def _evict(self, now: float) -> None:
        """Ends the requests that have been read for longest: as many as there are clients that wait."""
        old = [place for place in self._reading if not place.evicted and now - place.since > _SURE]
        for place in sorted(old, key=lambda place: place.since)[: len(self._waiting)]:
            place.evicted = True
            self._slow[place.client] = now + _REMEMBERED
            if place.deadline is not None:
                place.deadline.reschedule(now)
