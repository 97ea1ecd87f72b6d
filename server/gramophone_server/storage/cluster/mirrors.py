"""Copies of jobs that other fronts hold, kept up to date for their watchers at this front."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import sqlalchemy as sa

from ...messages.events import EncodedPicture, Event, Progress, State
from .. import codec
from ..access import Access
from ..archive import Archive
from ..codec import UnreadableError
from ..database import events, previews, snapshot
from ..errors import StorageError
from ..job import Job

log = logging.getLogger(__name__)


class Mirrors:
    """Updates jobs that somebody at this front watches and that this front does not hold.

    Args:
        watched: the jobs that somebody watches, by id.
        is_held: returns whether this front holds a job, so that its object is ahead of the database.
    """

    def __init__(
        self, archive: Archive, access: Access, watched: WeakValueDictionary[str, Job], is_held: Callable[[str], bool]
    ) -> None:
        self._archive = archive
        self._access = access
        self._watched = watched
        self._is_held = is_held
        # Ids of jobs to read: a job with several notices is read once.
        self._due: set[str] = set()
        self._reading: asyncio.Task[None] | None = None

    def unfinished(self) -> list[Job]:
        """Returns the jobs that may change."""
        return [job for job in list(self._watched.values()) if not job.state.final and not self._is_held(job.id)]

    def update_soon(self, job_id: str) -> None:
        """Reads a job in the background, if somebody watches it."""
        job = self._watched.get(job_id)
        if job is None or job.state.final or self._is_held(job_id):
            return
        self._due.add(job_id)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_due())

    async def update(self, job: Job) -> bool:
        """Reads a job; returns whether it still exists.

        Raises:
            StorageError: the database cannot be read.
        """
        read = await self._access.read(partial(self._load, job.id))
        if read is None:
            return self._is_held(job.id)
        if not self._is_held(job.id):
            _merge(job, *read)
        return True

    async def find_changed(self) -> list[str]:
        """Returns the ids of watched jobs that have events which this front has not read."""
        known = {job.id: job.sequence for job in self.unfinished()}
        if not known:
            return []
        latest = await self._access.read(partial(self._latest, list(known)), 0.0)
        return [job_id for job_id, sequence in latest.items() if sequence > known[job_id]]

    def close(self) -> None:
        """Stops reading, and ends the streams of all watchers."""
        if self._reading is not None:
            self._reading.cancel()
        for job in list(self._watched.values()):
            job.close()

    async def _read_due(self) -> None:
        while self._due:
            job = self._watched.get(self._due.pop())
            if job is not None:
                # The next poll reads it otherwise.
                with contextlib.suppress(StorageError):
                    await self.update(job)
            del job

    def _load(self, job_id: str) -> tuple[Job, Event | None] | None:
        with snapshot(self._archive.transactions.engine) as connection:
            job = self._archive.load_in(connection, job_id, with_result=True)
            if job is None:
                return None
            row = connection.execute(sa.select(previews).where(previews.c.job_id == job_id)).mappings().first()
            return job, _preview_of(row) if row else None

    def _latest(self, ids: Iterable[str]) -> dict[str, int]:
        wanted = sa.select(events.c.job_id, sa.func.max(events.c.sequence)).where(events.c.job_id.in_(ids))
        with self._archive.transactions.engine.connect() as connection:
            rows: Sequence[Any] = connection.execute(wanted.group_by(events.c.job_id)).all()
        return dict(tuple(row) for row in rows)


def _preview_of(row: Any) -> Event | None:
    """Returns the progress event, with its picture, of a row of previews; None if it cannot be read."""
    picture = EncodedPicture(row["data"], row["format"], row["width"], row["height"])
    try:
        detail = codec.decode_progress(row["detail"])
    except UnreadableError as error:
        log.warning("a preview cannot be read: %s", error)
        return None
    return Event(row["sequence"], row["time"], State.RUNNING, Progress(**{**vars(detail), "preview": picture}))


def _merge(job: Job, read: Job, preview: Event | None) -> None:
    """Adds to a job what was read of it; what was read may be older."""
    if read.sequence >= job.sequence:
        job.attempts, job.start_time, job.end_time = read.attempts, read.start_time, read.end_time
    found = {event.sequence: event for event in read.history()}
    if preview is not None:
        job.show(preview) if preview.sequence <= job.sequence else found.update({preview.sequence: preview})
    job.catch_up(found[sequence] for sequence in sorted(found))
