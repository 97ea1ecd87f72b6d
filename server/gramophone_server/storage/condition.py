"""Tracks whether the storage can be used, and tries to recover it while it cannot."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from .errors import StorageAwayError, Trouble, trouble_of

log = logging.getLogger(__name__)

# Seconds between attempts to recover the storage: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
PATIENCE = 0.8
"""Seconds that a call waits for an unavailable storage before it fails."""
# Calls do not wait if the storage has been unavailable for longer than this many seconds.
_BRIEF = 2.0


class StorageCondition:
    """Whether the storage can be used. After a reported trouble, `recover` is retried until it succeeds.

    Args:
        recover: tests the storage and finishes interrupted writes. Raises an error known to `trouble_of` if the storage
            cannot be used yet.

    Attributes:
        trouble: why the storage cannot be used; None while it can.
    """

    def __init__(self, recover: Callable[[], Awaitable[None]]) -> None:
        self._recover = recover
        self._listeners: list[Callable[[Trouble | None], None]] = []
        self._good = asyncio.Event()
        self._good.set()
        self._since = 0.0
        self._reports = 0
        self._logged: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.trouble: Trouble | None = None

    @property
    def away(self) -> Trouble | None:
        """The trouble if the storage is unavailable; None if it can be used, or is only full and so can be read."""
        return None if self.trouble is None or self.trouble.full else self.trouble

    def listen(self, listener: Callable[[Trouble | None], None]) -> None:
        """Calls `listener` on the event loop with each new trouble, and with None when the storage can be used."""
        self._listeners.append(listener)

    def report(self, trouble: Trouble) -> None:
        """Sets the trouble and starts to recover the storage. Must be called on the event loop."""
        self._reports += 1
        self._set(trouble)
        if self._task is None and not self._closed:
            self._since = time.monotonic()
            self._task = asyncio.create_task(self._recover_until_good())

    async def good(self) -> None:
        """Waits until the storage can be used."""
        await self._good.wait()

    async def good_soon(self, deadline: float) -> None:
        """Waits until the storage is available; not longer than until it has been unavailable for `_BRIEF` seconds.

        Args:
            deadline: when the caller stops waiting, by the monotonic clock.

        Raises:
            StorageAwayError: the storage is still unavailable.
        """
        if self.away is None:
            return
        left = min(deadline, self._since + _BRIEF) - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left)):
                await self.good()
        self.check()

    def check(self, *, brief: bool = True) -> None:
        """Checks that the storage is available.

        Args:
            brief: whether to raise even if it has been unavailable for less than `_BRIEF` seconds.

        Raises:
            StorageAwayError: it is unavailable.
        """
        if self.away is not None and (brief or time.monotonic() > self._since + _BRIEF):
            raise StorageAwayError(self.away)

    def close(self) -> None:
        """Stops the attempts to recover."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    async def _recover_until_good(self) -> None:
        pause, reports = _FIRST_PAUSE, -1
        # Try again if trouble was reported during an attempt: the attempt may not have tested that part.
        while reports != self._reports:
            reports = self._reports
            while not await self._recovered():
                await asyncio.sleep(pause)
                pause = min(1.3 * pause, _LONGEST_PAUSE)
        self._task = None
        self._set(None)

    async def _recovered(self) -> bool:
        try:
            await self._recover()
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is None:
                trouble = Trouble(f"{type(error).__name__}: {error}")
                if trouble.reason not in self._logged:
                    log.exception("the storage could not be recovered")
            self._set(trouble)
            return False
        return True

    def _set(self, trouble: Trouble | None) -> None:
        before, self.trouble = self.trouble, trouble
        if trouble is None:
            log.warning("the storage can be used again, after %.1f s", time.monotonic() - self._since)
            self._logged.clear()
            self._good.set()
        else:
            self._good.clear()
            if trouble.reason not in self._logged:
                self._logged.add(trouble.reason)
                log.warning("the storage cannot be used, and jobs wait for it: %s", trouble.detail or trouble.reason)
        if before != trouble:
            for listener in self._listeners:
                listener(trouble)
