"""Whether the storage can be used: good, or troubled for some reason since some time."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from .errors import StorageAwayError, Trouble, trouble_of

log = logging.getLogger(__name__)

# Seconds between attempts to use the storage again: at first, and when it has been away for long.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
PATIENCE = 0.8
"""Seconds for which a call waits for a storage that is away, before it says so."""
# Trouble that lasts longer is not waited for.
_BRIEF = 2.0


class StorageCondition:
    """How the storage stands. While it is troubled, it is tried again and again until it can be used.

    Args:
        recover: uses the storage, and puts right what the trouble has left open. Raises what `trouble_of` knows if that
            cannot be done yet.

    Attributes:
        trouble: why it cannot be used; None while it can.
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
        """The trouble, unless it is only that there is no room: then the storage can be read."""
        return None if self.trouble is None or self.trouble.full else self.trouble

    def listen(self, listener: Callable[[Trouble | None], None]) -> None:
        """Has `listener` told, on the event loop, of each change."""
        self._listeners.append(listener)

    def report(self, trouble: Trouble) -> None:
        """Takes in that the storage cannot be used, and begins to try it again. On the event loop."""
        self._reports += 1
        self._set(trouble)
        if self._task is None and not self._closed:
            self._since = time.monotonic()
            self._task = asyncio.create_task(self._wait_out())

    async def good(self) -> None:
        """Waits until the storage can be used."""
        await self._good.wait()

    async def good_soon(self, deadline: float) -> None:
        """Waits until the storage can be used, if that may be soon: it is troubled only since a moment.

        Args:
            deadline: of the caller, by the monotonic clock.

        Raises:
            StorageAwayError: it cannot be used.
        """
        if self.away is None:
            return
        left = min(deadline, self._since + _BRIEF) - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left)):
                await self.good()
        self.check()

    def check(self, *, brief: bool = True) -> None:
        """Sees that the storage is not away.

        Args:
            brief: whether trouble counts that is only a moment old.

        Raises:
            StorageAwayError: it is.
        """
        if self.away is not None and (brief or time.monotonic() > self._since + _BRIEF):
            raise StorageAwayError(self.away)

    def close(self) -> None:
        """Tries no more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    async def _wait_out(self) -> None:
        pause, reports = _FIRST_PAUSE, -1
        # What was reported during an attempt may be of something that it has not seen.
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
                    log.exception("the storage could not be put right")
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
