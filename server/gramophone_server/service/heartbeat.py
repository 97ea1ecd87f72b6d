"""How long the event loop stands still: all calls wait while it does."""

import asyncio
import contextlib
import logging
import time
from collections import deque

log = logging.getLogger(__name__)

_BEAT = 0.025
# Seconds that a stall is remembered, and from which on one is worth a line of the log.
_MEMORY, _LONG = 60.0, 0.5


class Heartbeat:
    """Beats on the event loop and measures how late each beat comes."""

    def __init__(self) -> None:
        # Stalls in falling order, each later than the one before: the first is the longest that is remembered.
        self._stalls: deque[tuple[float, float]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to beat, on the running loop."""
        self._task = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Ends the beating."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def longest(self) -> float:
        """The longest stall of the last minute; seconds. Safe from any thread."""
        since = time.monotonic() - _MEMORY
        return max((seconds for when, seconds in tuple(self._stalls) if when >= since), default=0.0)

    async def _beat(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(_BEAT)
            now = time.monotonic()
            self._note(now, now - begun - _BEAT)

    def _note(self, now: float, seconds: float) -> None:
        while self._stalls and self._stalls[-1][1] <= seconds:
            self._stalls.pop()
        while self._stalls and self._stalls[0][0] < now - _MEMORY:
            self._stalls.popleft()
        self._stalls.append((now, seconds))
        if seconds > _LONG:
            log.warning("the event loop stood still for %.2f s", seconds)
