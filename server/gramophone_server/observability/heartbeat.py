"""How long the event loop stands still: all calls wait while it does."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from pathlib import Path

log = logging.getLogger(__name__)

_BEAT = 0.025
# Seconds that a stall is remembered, and from which on one is worth a line of the log.
_MEMORY, _LONG = 60.0, 0.5


class Heartbeat:
    """Beats on the event loop and measures how late each beat comes.

    Where the system says it (Linux), time in which the loop could run but had no processor does not count: then not the
    server is at fault, but the machine is busy.
    """

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
            begun, without_processor = time.monotonic(), _without_processor()
            await asyncio.sleep(_BEAT)
            now = time.monotonic()
            self._note(now, now - begun - _BEAT - (_without_processor() - without_processor))

    def _note(self, now: float, seconds: float) -> None:
        while self._stalls and self._stalls[-1][1] <= seconds:
            self._stalls.pop()
        while self._stalls and self._stalls[0][0] < now - _MEMORY:
            self._stalls.popleft()
        self._stalls.append((now, seconds))
        if seconds > _LONG:
            log.warning("the event loop stood still for %.2f s", seconds)


def _without_processor() -> float:
    """Seconds that this thread has waited for a processor in its life; 0 where the system does not say."""
    try:
        # Time on a processor, and time waiting for one; nanoseconds.
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
