"""Buffers events that wait to be written: state changes for a moment, progress for up to two seconds."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ..messages.events import Event, Progress
from .access import Access
from .archive import Archive
from .condition import PATIENCE
from .errors import StorageAwayError, StorageFullError, trouble_of
from .job import Job

log = logging.getLogger(__name__)

Write = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls a function in the writer thread, such as `Access.write_once`."""

# Seconds between two writes of progress.
_FLUSH_EVERY = 2.0
# The first _DENSE progress events of a job are all stored. Later ones are stored when the iteration has grown by a
# factor of 1 + 1 / _DENSE, which keeps a loss curve smooth.
_DENSE = 4096
# Maximum events in the buffer; above it, every other progress event is dropped.
_MAX_EVENTS = 8192


class EventBuffer:
    """Collects events of live jobs and writes them in batches; keeps them while the storage is unavailable.

    Args:
        archive: stores the events.
        access: runs the writes.
    """

    def __init__(self, archive: Archive, access: Access) -> None:
        self._archive = archive
        self._access = access
        self._waiting: list[tuple[Job, Event]] = []
        self._flushing = asyncio.Lock()
        self._urgent = asyncio.Event()
        # Number of progress events stored and the iteration of the last one, by job id.
        self._stored: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def record(self, job: Job, event: Event) -> None:
        """Adds a non-final event; a state change is written at once, progress at the next flush."""
        if self._should_store(job, event):
            if isinstance(event.detail, Progress):
                event = replace(event, detail=replace(event.detail, preview=None))
            self._waiting.append((job, event))
            if event.detail is None:
                self._urgent.set()

    def of(self, job: Job, after: int) -> list[Event]:
        """Returns the buffered events of a job with a sequence above `after`."""
        return [event for known, event in self._waiting if known is job and event.sequence > after]

    def close(self, job: Job) -> None:
        """Frees what is held about a job that has ended."""
        self._stored.pop(job.id, None)

    def drop(self, job: Job) -> None:
        """Forgets a job that this server may no longer write."""
        self._waiting = [(known, event) for known, event in self._waiting if known is not job]
        self.close(job)

    async def flush(self, write: Write) -> None:
        """Writes the buffered events; if the storage is full or unavailable, they stay in the buffer."""
        async with self._flushing:
            batch, self._waiting = self._waiting, []
            if not batch:
                return
            try:
                await write(partial(self._archive.record, batch))
            except BaseException as error:
                self._waiting = _thinned(batch + self._waiting)
                if isinstance(error, StorageFullError | StorageAwayError):
                    return
                if isinstance(error, Exception) and trouble_of(error) is None:
                    # A bug: drop the events, so that their jobs can still end.
                    log.exception("%d events cannot be stored", len(self._waiting))
                    self._waiting = []
                    return
                raise

    async def flush_first(self) -> float:
        """Writes the buffered events before a read; returns the seconds of patience left for the read."""
        begun = time.monotonic()
        await self.flush(self._access.write_once)
        return max(0.0, PATIENCE - (time.monotonic() - begun))

    async def flush_regularly(self) -> None:
        """Writes state changes at once and progress every `_FLUSH_EVERY` seconds, until it is canceled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_EVERY):
                    await self._urgent.wait()
            self._urgent.clear()
            await self.flush(self._access.write_once)

    def _should_store(self, job: Job, event: Event) -> bool:
        """Whether to store an event; limits the stored progress of long jobs."""
        if not isinstance(event.detail, Progress):
            return True
        count, last = self._stored.get(job.id, (0, 0))
        if count >= _DENSE and event.detail.iteration < last * (1 + 1 / _DENSE):
            return False
        self._stored[job.id] = count + 1, event.detail.iteration
        return True


def _thinned(waiting: list[tuple[Job, Event]]) -> list[tuple[Job, Event]]:
    """Returns the events; of more than `_MAX_EVENTS`, all state changes and every other progress event."""
    if len(waiting) <= _MAX_EVENTS:
        return waiting
    return [(job, event) for i, (job, event) in enumerate(waiting) if i % 2 or event.detail is None]
