"""Bounds the memory of requests that are being read or handled, and shares it fairly among clients."""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..rpc.violations import BusyError

# Seconds for which a request is read before it may be evicted, and seconds between two checks of the queue.
_MIN_READING, _INTERVAL = 0.25, 0.05
# Seconds for which a client counts as slow after a request of it was evicted.
_SLOW_SECONDS = 10.0
# Calls that wait for a reservation. Each may hold an HTTP/2 flow-control window of received data, 64 KiB.
_MAX_WAITING = 512

EVICTED = "the server is busy, and this request arrived too slowly; send it again"
"""The error of a request that was evicted to make room for another one."""
FULL = "the server is reading as many requests as it can at the moment"
"""The error of a request that got no reservation."""


@dataclass(eq=False)
class Reservation:
    """A call's part of a budget.

    Attributes:
        number: counts up with each reservation.
        bytes: size of the request; its largest possible size while it is being read.
        since: when reading began, in seconds of the event loop's clock.
        evicted: whether the request was evicted to make room for another one.
        deadline: the timeout of reading.
    """

    client: str
    number: int
    bytes: int
    since: float = 0.0
    evicted: bool = False
    deadline: asyncio.Timeout | None = None


@dataclass(eq=False)
class _Waiter:
    reservation: Reservation
    turn: asyncio.Future[None]
    until: float


class ByteBudget:
    """A bound on the total bytes of the requests of one kind.

    A request counts with `max_request` bytes while it is being read, and with its real size after that. One client gets
    at most half of the budget. Of the waiting clients, the one with the fewest bytes is admitted first. While others
    wait, the requests that have been read for longest are evicted. Their clients then count as slow for 10 seconds:
    slow clients are admitted last, and get at most half of the budget together.

    Args:
        total: bytes of all requests together.
        max_request: bytes of one request.
        timeout: seconds to wait for a reservation, and seconds to read a request.

    Attributes:
        parsing: a lock that is held while a large request is parsed.
    """

    def __init__(self, total: int, max_request: int, timeout: float) -> None:
        self._total = total
        self._max_request = max_request
        self._timeout = timeout
        self._held: Counter[str] = Counter()
        self._reading: set[Reservation] = set()
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._slow: dict[str, float] = {}
        self._watching: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self.parsing = asyncio.Lock()

    @asynccontextmanager
    async def reserve(self, client: str) -> AsyncIterator[Reservation]:
        """Waits for a reservation for a client's request, and holds it for the length of the block.

        Raises:
            BusyError: no bytes were free within the timeout, or too many requests wait.
        """
        reservation = Reservation(client, next(self._numbers), self._max_request)
        await self._enter(reservation)
        try:
            yield reservation
        finally:
            self.shrink(reservation, 0)

    @asynccontextmanager
    async def reading(self, reservation: Reservation) -> AsyncIterator[None]:
        """Marks a request as being read for the length of the block.

        Raises:
            BusyError: the request was evicted.
            TimeoutError: reading took longer than the timeout.
        """
        reservation.since = asyncio.get_running_loop().time()
        self._reading.add(reservation)
        try:
            async with asyncio.timeout(self._timeout) as reservation.deadline:
                yield
        except TimeoutError:
            if not reservation.evicted:
                raise
            raise BusyError(EVICTED, 1.0) from None
        finally:
            self._reading.discard(reservation)

    def shrink(self, reservation: Reservation, size: int) -> None:
        """Reduces a reservation to `size` bytes."""
        self._held[reservation.client] -= reservation.bytes - size
        if not self._held[reservation.client]:
            del self._held[reservation.client]
        reservation.bytes = size
        self._admit()

    async def _enter(self, reservation: Reservation) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(reservation, loop.create_future(), loop.time() + self._timeout)
        self._enqueue(waiter)
        self._admit()
        if not waiter.turn.done() and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._watch_queue())
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.shrink(reservation, 0)  # Admitted and canceled in the same cycle of the event loop.
            raise
        finally:
            self._dequeue(waiter)

    def _enqueue(self, waiter: _Waiter) -> None:
        """Queues a call. If the queue is full, refuses the last call of the client that has the most calls in it."""
        client = waiter.reservation.client
        if sum(map(len, self._waiting.values())) >= _MAX_WAITING:
            largest = max(self._waiting, key=lambda name: len(self._waiting[name]))
            if len(self._waiting[largest]) <= len(self._waiting.get(client, ())) + 1:
                raise BusyError(FULL, 1.0)
            self._refuse(self._waiting[largest][-1])
        self._waiting.setdefault(client, deque()).append(waiter)

    def _dequeue(self, waiter: _Waiter) -> None:
        line = self._waiting.get(waiter.reservation.client)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self._waiting[waiter.reservation.client]

    def _refuse(self, waiter: _Waiter) -> None:
        self._dequeue(waiter)
        if not waiter.turn.done():
            waiter.turn.set_exception(BusyError(FULL, 1.0))

    def _admit(self) -> None:
        while (waiter := self._next()) is not None:
            self._dequeue(waiter)
            if not waiter.turn.done():
                self._held[waiter.reservation.client] += waiter.reservation.bytes
                waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """Returns the next call to admit; None if none can be admitted."""
        free, half = self._total - self._held.total(), self._total // 2
        slow = {name for name in self._waiting if name in self._slow}
        admissible = [
            name
            for name in self._waiting
            # A client gets at most half of the budget, but always one request.
            if (not (held := self._held[name]) or held + self._max_request <= half)
            and free - (half if slow and name in slow else 0) >= self._max_request
        ]
        if not admissible:
            return None
        first = min(
            admissible, key=lambda name: (name in slow, self._held[name], self._waiting[name][0].reservation.number)
        )
        return self._waiting[first][0]

    async def _watch_queue(self) -> None:
        """While calls wait: evicts slow requests, and refuses calls that have waited longer than the timeout."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            now = loop.time()
            for waiter in [line[0] for line in self._waiting.values() if line[0].until < now]:
                self._refuse(waiter)
            self._slow = {name: until for name, until in self._slow.items() if until > now}
            self._admit()
            self._evict(now)
            await asyncio.sleep(_INTERVAL)

    def _evict(self, now: float) -> None:
        """Evicts the requests that have been read for longest, one for each waiting client."""
        old = [known for known in self._reading if not known.evicted and now - known.since > _MIN_READING]
        for reservation in sorted(old, key=lambda known: known.since)[: len(self._waiting)]:
            reservation.evicted = True
            self._slow[reservation.client] = now + _SLOW_SECONDS
            if reservation.deadline is not None:
                reservation.deadline.reschedule(now)
