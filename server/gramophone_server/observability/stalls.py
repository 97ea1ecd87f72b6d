"""Measures stalls of the event loop, during which all calls wait."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from pathlib import Path

log = logging.getLogger(__name__)

# Seconds of each sleep.
_INTERVAL = 0.025
# Stalls of the last _MEMORY seconds are kept; a stall above _LONG seconds is logged.
_MEMORY, _LONG = 60.0, 0.5


class StallMonitor:
    """Sleeps on the event loop again and again, and measures how late each wake-up is.

    On Linux, the time that the thread waited for a CPU is subtracted: then the machine is busy, not the server.
    """

    def __init__(self) -> None:
        # (end, seconds) of stalls by time, each shorter than the one before: the first is the longest.
        self._stalls: deque[tuple[float, float]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts measuring on the running loop."""
        self._task = asyncio.create_task(self._measure())

    async def stop(self) -> None:
        """Stops measuring."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def longest(self) -> float:
        """Returns the longest stall of the last minute in seconds. Thread-safe."""
        since = time.monotonic() - _MEMORY
        return max((seconds for when, seconds in tuple(self._stalls) if when >= since), default=0.0)

    async def _measure(self) -> None:
        while True:
            begun, waited = time.monotonic(), _cpu_wait()
            await asyncio.sleep(_INTERVAL)
            now = time.monotonic()
            self._note(now, now - begun - _INTERVAL - (_cpu_wait() - waited))

    def _note(self, now: float, seconds: float) -> None:
        while self._stalls and self._stalls[-1][1] <= seconds:
            self._stalls.pop()
        while self._stalls and self._stalls[0][0] < now - _MEMORY:
            self._stalls.popleft()
        self._stalls.append((now, seconds))
        if seconds > _LONG:
            log.warning("the event loop was blocked for %.2f s", seconds)


def _cpu_wait() -> float:
    """Returns the seconds that this thread has waited for a CPU so far; 0 where the system does not report them."""
    try:
        # The file has the nanoseconds on a CPU, then those waiting for one.
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
