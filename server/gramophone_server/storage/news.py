"""Events that wait to be written: changes of state for a moment, figures for some seconds."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from ..messages.events import Event, Progress
from .access import Access
from .archive import Archive
from .condition import PATIENCE
from .errors import StorageAwayError, StorageFullError, trouble_of
from .job import Job

log = logging.getLogger(__name__)

Write = Callable[[Callable[[], None]], Awaitable[None]]
"""What writes by calling a function in the thread for that."""

# Seconds that figures may wait to be written; how many of a job are all kept, before only as many more are as keep a
# curve smooth.
_FLUSH_EVERY, _DENSE = 2.0, 4096
# Events that may wait to be written; of more, every other report goes.
_MOST_NEWS = 8192


class News:
    """Has events of live jobs written, many at a time; while the storage is away they wait here.

    Args:
        archive: where they go.
        access: how.
    """

    def __init__(self, archive: Archive, access: Access) -> None:
        self._archive = archive
        self._access = access
        self._waiting: list[tuple[Job, Event]] = []
        self._flushing = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._kept: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def record(self, job: Job, event: Event) -> None:
        """Has an event that is not the job's end kept: a change of its state at once, its figures soon."""
        if self._is_worth_keeping(job, event):
            if isinstance(event.detail, Progress):
                event = replace(event, detail=replace(event.detail, preview=None))
            self._waiting.append((job, event))
            if event.detail is None:
                self._urgent.set()

    def of(self, job: Job, after: int) -> list[Event]:
        """The events of a job that wait, with a higher sequence than `after`."""
        return [event for known, event in self._waiting if known is job and event.sequence > after]

    def close(self, job: Job) -> None:
        """Forgets how many figures of a job have been kept; it has ended."""
        self._kept.pop(job.id, None)

    async def flush(self, write: Write) -> None:
        """Writes the events that wait; those that cannot be written now wait on."""
        async with self._flushing:
            news, self._waiting = self._waiting, []
            if not news:
                return
            try:
                await write(partial(self._archive.record, news))
            except BaseException as error:
                self._waiting = _thinned(news + self._waiting)
                if isinstance(error, StorageFullError | StorageAwayError):
                    return
                if isinstance(error, Exception) and trouble_of(error) is None:
                    # Something is wrong with them; losing figures is no reason to lose jobs.
                    log.exception("%d events cannot be kept", len(self._waiting))
                    self._waiting = []
                    return
                raise

    async def flush_first(self) -> float:
        """Writes the events that wait, for what is about to be read; the patience that is left for reading."""
        begun = time.monotonic()
        await self.flush(self._access.write_once)
        return max(0.0, PATIENCE - (time.monotonic() - begun))

    async def flush_often(self) -> None:
        """Writes them again and again, until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_EVERY):
                    await self._urgent.wait()
            self._urgent.clear()
            await self.flush(self._access.write_once)

    def _is_worth_keeping(self, job: Job, event: Event) -> bool:
        """Keeps the figures of a long job sparse enough that they do not grow with it for ever."""
        if not isinstance(event.detail, Progress):
            return True
        count, last = self._kept.get(job.id, (0, 0))
        if count >= _DENSE and event.detail.iteration < last * (1 + 1 / _DENSE):
            return False
        self._kept[job.id] = count + 1, event.detail.iteration
        return True


def _thinned(news: list[tuple[Job, Event]]) -> list[tuple[Job, Event]]:
    """Events that wait for long; of too many, all changes of state and every other report."""
    if len(news) <= _MOST_NEWS:
        return news
    return [(job, event) for i, (job, event) in enumerate(news) if i % 2 or event.detail is None]
