"""The job store: unfinished jobs in memory, all jobs in the archive on disk."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import sqlalchemy as sa

from ..blobs import BlobStore, DamagedBlobError
from ..messages.events import Event, Failure, Result, State
from ..messages.pipe import StorageUnavailable
from ..messages.spec import JobSpec
from .access import LOCAL_PING_TIMEOUT, REMOTE_PING_TIMEOUT, Access
from .archive import Archive
from .clock import AgeClock
from .condition import StorageCondition
from .connections import Connections
from .database import open_engine
from .errors import StorageAwayError, StorageError, StorageFullError, reason_of, trouble_of
from .event_buffer import EventBuffer, Write
from .folder import DataFolder, DataFolderError
from .ids import JobIds
from .job import SEQUENCE_GAP, Job
from .opening import DatabaseOpener
from .ownership import Claim, release
from .query import Query
from .quotas import Retention
from .uploads import UploadStore

if TYPE_CHECKING:
    from .objects.files import RemoteFiles

log = logging.getLogger(__name__)

# Number of events read at once.
_PAGE = 500
# Seconds that uploads are kept after their last use.
_UPLOADS_LAST = 24 * 3600.0
# Seconds that the copy of a paused job's checkpoint may take.
_SEND_PATIENCE = 5.0


CheckRoom = Callable[[Mapping[str, int]], object]
"""Checks the numbers of waiting jobs, by client."""


class News(Protocol):
    """Is told, on the event loop, what other fronts of a cluster do."""

    def work(self) -> None:
        """Is called when a job may wait that can run now."""

    def canceled(self, job_id: str) -> None:
        """Is called when a client has canceled a job, which this server runs, at another front."""

    def lost(self, job: Job) -> None:
        """Is called when another front has taken over a job, which this server runs."""


@dataclass
class Ending:
    """The end of a job that is being written to the archive.

    Attributes:
        written: is resolved when the end is stored.
    """

    job: Job
    event: Event
    written: asyncio.Future[None]


class JobStore:
    """Stores jobs. A job is on disk before `add` returns, and an end is on disk before watchers see it.

    While the storage is unavailable (see `condition`), nothing is lost: ends and events wait in memory until they can
    be written, calls about live jobs are answered from memory, and all other calls fail with StorageAwayError.

    Args:
        folder: the data folder.
        database: URL of the database; by default the SQLite file in the folder.
        retention: how long jobs are kept, and the quotas of files.
        take_database: whether to take a database that belongs to another folder.
        remote: the files of jobs in an object store; None for files in the folder.

    Raises:
        DataFolderError: the URL is invalid, or the driver of the database is not installed.

    Attributes:
        shared: whether other fronts of a cluster use the same database.
        condition: whether the storage can be used.
        files: the blobs with pictures and results.
        ids: makes the ids of new jobs.
        uploads: picture files that clients send before the requests that use them.
    """

    shared = False

    def __init__(
        self,
        folder: DataFolder,
        database: str | None = None,
        retention: Retention | None = None,
        *,
        take_database: bool = False,
        remote: "RemoteFiles | None" = None,
    ) -> None:
        self.folder = folder
        self.ids = JobIds()
        self.files = BlobStore(folder.blobs) if remote is None else remote.blobs(folder, self._needed_files)
        self._copies = None if remote is None else remote.checkpoints(folder, self._running)
        self._in_folder = database is None
        self._clock = AgeClock()
        url = database or sa.URL.create("sqlite", database=str(folder.database))
        try:
            self._engine = open_engine(url, safe=folder.permanent)
        except (sa.exc.ArgumentError, ImportError) as error:
            folder.close()
            raise DataFolderError(
                f"the database cannot be used: {reason_of(error)}; use a URL such as "
                "postgresql+psycopg://user@host/name, and install its driver: pip install 'gramophone[postgres]'"
            ) from error
        self._connections = Connections(self._engine, self._name_in_database)
        self._archive = Archive(self._engine, self.files, retention or Retention())
        self._opener = self._make_opener(take=take_database)
        self._opener.copies = self._copies
        self.condition = StorageCondition(self._recover)
        self._access = Access(self.condition, self._archive.stored.ping, self._connections.abort, self._ping_timeout)
        # Jobs that have not ended, or whose end is not stored yet.
        self._live: dict[str, Job] = {}
        # Ended jobs that a stream or another caller still holds.
        self._watched: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._buffer = EventBuffer(self._archive, self._access)
        self.uploads = UploadStore(self._archive.uploads, self._access)
        self._endings: dict[str, Ending] = {}
        # Ids of jobs whose submission failed for the client, but which may be in the database.
        self._in_doubt: set[str] = set()
        self._size = 0
        self._tasks: list[asyncio.Task[None]] = []

    def _make_opener(self, *, take: bool) -> DatabaseOpener:
        return DatabaseOpener(
            self._engine, self._connections, self.folder, self.files, self._archive, self.ids,
            in_folder=self._in_folder, take=take,
        )  # fmt: skip

    @property
    def _name_in_database(self) -> str:
        return "gramophone"

    @property
    def _ping_timeout(self) -> float:
        return LOCAL_PING_TIMEOUT if self._engine.dialect.name == "sqlite" else REMOTE_PING_TIMEOUT

    @property
    def permanent(self) -> bool:
        """Whether the jobs are kept when this server ends."""
        return self.folder.permanent

    async def open(self) -> list[Job]:
        """Opens the archive and returns the unfinished jobs of an earlier server, in the order to run them.

        Raises:
            DataFolderError: the database cannot be used.
        """
        opened = await asyncio.to_thread(self._opener.open)
        self._clock = opened.clock
        for job in opened.jobs:
            job.sequence += SEQUENCE_GAP
            self._live[job.id] = job
        self._tasks = [
            asyncio.create_task(self._buffer.flush_regularly()),
            asyncio.create_task(self._delete_old_regularly()),
        ]
        if opened.alone:
            self._tasks.append(asyncio.create_task(self._remove_strays()))
        if self._copies is not None:
            self._tasks.append(asyncio.create_task(self._copies.run()))
        return opened.jobs

    async def ready(self) -> None:
        """Waits until the storage can be used and the folder of pictures is readable."""
        while True:
            await self.condition.good()
            with contextlib.suppress(StorageError):
                return await self._access.read(self._archive.stored.check_files)

    def check(self) -> None:
        """Checks that a new job can probably be stored, without accessing the storage.

        Raises:
            StorageAwayError: the storage has been unavailable for more than a moment.
        """
        self.condition.check(brief=False)

    def listen(self, news: News) -> None:
        """Sets whom to tell what other fronts do; a store of a single server has no news."""

    async def add(self, job: Job, spec: JobSpec, staged: Path | None = None, check: CheckRoom = bool) -> None:
        """Stores a new job; it is on disk when this returns.

        Args:
            staged: folder with the pixels that the spec refers to but does not contain, in files named by blob.
            check: is called with the numbers of waiting jobs, by client, at all fronts of a cluster; raises an error if
                the job may not be added. A single server knows them already, and does not call it.

        Raises:
            StorageError: the job cannot be stored and will not run.
            AlreadySubmittedError: another front has just stored the client's job with this request id.
        """
        event = job.queue()
        # Add the job before it is in the archive: a caller that read it from there would get a copy that never changes.
        self._live[job.id] = job
        add = partial(self._archive.add, job, spec, event, staged)
        try:
            job.spec = await self._access.write(add, partial(self._in_doubt.add, job.id))
        except BaseException:
            del self._live[job.id]
            raise

    async def give_back(self, job: Job) -> None:
        """Stores that an interrupted job waits again."""
        self.record(job, job.queue())

    async def pause(self, job: Job) -> None:
        """Gives a job with a checkpoint to other fronts of a cluster; the next server continues it otherwise."""
        await self._send_checkpoint(job)

    async def cancel_elsewhere(self, job: Job) -> bool:
        """Cancels a job that this server does not hold; returns whether other servers may hold it."""
        return False

    async def fetch_preview(self, job: Job) -> None:
        """Waits a moment for the preview of a job that another front of a cluster runs."""

    async def checkpoint(self, job: Job) -> Path:
        """Returns the file of a job's checkpoint."""
        return self.folder.checkpoint(job.id)

    async def prepare(self, job: Job) -> StorageUnavailable | None:
        """Copies what a job needs, before it runs, from the object store to the folder; returns why that fails."""
        if self._copies is not None:
            try:
                await self._access.read(partial(self._prepare, job))
            except (StorageFullError, StorageAwayError) as error:
                return StorageUnavailable(error.trouble.reason)
        return None

    def record(self, job: Job, event: Event | None) -> None:
        """Stores a non-final event in the background: a state change at once, progress within seconds."""
        if event is not None:
            self._buffer.record(job, event)

    async def end(self, job: Job, outcome: Result | Failure | None) -> None:
        """Ends a job: stores the end, waits until that succeeds, then tells the watchers. None means canceled."""
        ending = Ending(job, job.ending(outcome), asyncio.get_running_loop().create_future())
        self._endings[job.id] = ending
        await self.flush()
        try:
            await self._write_end(ending, self._access.write_once)
        except (StorageFullError, StorageAwayError) as error:
            log.warning("the end of job %s waits for the storage: %s", job.id, error.trouble.reason, extra=job.marks)
            self.condition.report(error.trouble)
            await ending.written

    def is_ending(self, job: Job) -> bool:
        """Whether the job has ended, even if its end is not stored yet."""
        return job.state.final or job.id in self._endings

    async def get(self, job_id: str, *, with_result: bool = True) -> Job | None:
        """Returns the job with this id; None if there is none.

        Raises:
            StorageError: the job is not in memory, and the archive cannot be read.
        """
        if (job := self._live.get(job_id) or self._watched.get(job_id)) is not None:
            return job
        job = await self._access.read(partial(self._archive.load, job_id, with_result=with_result))
        if job is not None and with_result:
            # Several watchers of an ended job share one object.
            job = self._watched.setdefault(job.id, job)
        return job

    async def submitted_as(self, owner: str, request_id: str) -> Job | None:
        """Returns the client's job with this request id; None if there is none.

        Raises:
            StorageError: the job is not in memory, and the archive cannot be read.
        """
        for job in self._live.values():
            if (job.owner, job.request_id) == (owner, request_id):
                return job
        job_id = await self._access.read(partial(self._archive.submitted_as, owner, request_id))
        return await self.get(job_id) if job_id else None

    async def find(self, query: Query) -> list[Job]:
        """Returns the jobs that match a query, in their current state, without their results.

        Raises:
            StorageError: the archive cannot be read.
        """
        patience = await self._buffer.flush_first()
        found = await self._access.read(partial(self._archive.find, query), patience)
        return [self._live.get(job.id, job) for job in found]

    async def replay(self, job: Job, after: int) -> AsyncIterator[Event]:
        """Yields all past events of a job with a sequence above `after`.

        While the storage is unavailable, yields only the events of a live job that are in memory; old progress is
        missing.

        Raises:
            StorageError: the job has ended, and the archive cannot be read.
        """
        if not job.holds_all_after(after):
            patience = await self._buffer.flush_first()
            try:
                while page := await self._access.read(partial(self._archive.events, job.id, after, _PAGE), patience):
                    # Skip the final event: the job holds it.
                    for event in (event for event in page if not event.state.final):
                        yield event
                    after = page[-1].sequence - page[-1].state.final
                    if page[-1].state.final:
                        break
            except StorageAwayError:
                if job.id not in self._live:
                    raise
        held = {event.sequence: event for event in (*self._buffer.of(job, after), *job.history(after))}
        for sequence in sorted(held):
            yield held[sequence]

    async def delete(self, job: Job) -> None:
        """Deletes a job that has ended.

        Raises:
            StorageError: it cannot be deleted.
        """
        await self._access.write(partial(self._archive.delete, [job.id]))
        self._watched.pop(job.id, None)

    async def check_room(self, owner: str) -> None:
        """Checks that a client may store at least one more byte, and evicts older files if needed.

        Raises:
            QuotaExceededError: unfinished jobs take the whole quota.
            StorageError: the storage cannot be used.
        """
        await self._access.write(partial(self._archive.stored.make_room, owner, {"": 1}, is_upload=False))

    async def flush(self) -> None:
        """Writes the buffered events; if the storage is full or unavailable, they stay in the buffer."""
        await self._buffer.flush(self._access.write_once)

    async def delete_old(self) -> None:
        """Deletes ended jobs by the retention settings, and uploads that were not used for a day.

        Raises:
            StorageError: the storage cannot be used.
        """
        while await self._access.write(partial(self._archive.stored.delete_old, self._clock.read(), _UPLOADS_LAST)):
            pass

    async def check_pictures(self, job: Job) -> None:
        """Checks a job's pictures, so that damaged ones are counted and logged, after a worker found damage."""
        for name in {part.blob for part in job.spec.pictures()}:
            with contextlib.suppress(StorageError):
                await self._access.read(partial(self.files.is_good, name))

    def size(self) -> int:
        """Returns the bytes of all files of jobs and uploads; the last known value if the database fails. Blocks."""
        if self.condition.away is None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                self._size = self._archive.stored.size()
        return self._size

    async def close(self) -> None:
        """Writes buffered events if possible, and releases the database and the folder."""
        self.condition.close()
        for task in self._tasks:
            task.cancel()
        for job in self._live.values():
            job.close()
        if self._copies is not None:
            await asyncio.to_thread(self._copies.close)
        await self.flush()
        if self._buffer:
            log.warning("%d events could not be stored before the shutdown", len(self._buffer))
        await asyncio.to_thread(self._access.close)
        await asyncio.to_thread(self._release)
        self._engine.dispose()
        if self._in_folder:
            await asyncio.to_thread(self.folder.seal)
        self.folder.close()

    async def _recover(self) -> None:
        """Tests the storage, deletes jobs whose submission failed, and writes buffered events and ends."""
        await self._access.force(self._recover_database)
        await self._buffer.flush(self._access.force)
        for ending in list(self._endings.values()):
            await self._write_end(ending, self._access.force)

    def _recover_database(self) -> None:
        self._connections.renew()
        self._archive.stored.probe()
        if in_doubt := set(self._in_doubt):
            self._archive.delete_unacknowledged(in_doubt)
            self._in_doubt -= in_doubt

    async def _write_end(self, ending: Ending, write: Write) -> None:
        job = ending.job
        try:
            mine = await write(partial(self._archive.end, job, ending.event))
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is not None and not trouble.full:
                raise
            if trouble is not None:
                # The disk is full: the job has ended, so its checkpoint can be deleted.
                self._delete_checkpoint(job)
            else:
                log.exception("the end of job %s cannot be stored", job.id, extra=job.marks)
                ending.event = job.ending(Failure("INTERNAL", f"The end of the job could not be stored: {error}"))
            mine = await self._write_end_again(ending, write)
        self._ended(ending) if mine else self._not_ended(ending)

    async def _write_end_again(self, ending: Ending, write: Write) -> bool:
        try:
            return bool(await write(partial(self._archive.end, ending.job, ending.event)))
        except Exception as error:
            if trouble_of(error) is not None:
                raise
            # A bug: the job ends only for its watchers; the next server runs it again.
            log.exception("the end of job %s cannot be stored at all", ending.job.id, extra=ending.job.marks)
            return True

    def _not_ended(self, ending: Ending) -> None:
        """Ends a job, only for its watchers, that is no longer in the database."""
        self._ended(ending)

    def _ended(self, ending: Ending) -> None:
        """Ends a job for its watchers after its end was stored."""
        job = ending.job
        job.end(ending.event)
        self._watched[job.id] = self._live.pop(job.id, job)
        self._endings.pop(job.id, None)
        self._buffer.close(job)
        self._delete_checkpoint(job)
        if not ending.written.done():
            ending.written.set_result(None)

    def _delete_checkpoint(self, job: Job) -> None:
        self.folder.delete_checkpoints(job.id)
        if self._copies is not None:
            self._copies.delete_soon(job.id)

    def _prepare(self, job: Job) -> None:
        if self._copies is not None and job.attempts > 1:
            self._copies.adopt(job.id)
        for part in job.spec.pictures():
            # The worker reports a damaged picture.
            with contextlib.suppress(DamagedBlobError):
                self.files.fetch(part.blob)

    async def _send_checkpoint(self, job: Job) -> None:
        if self._copies is not None:
            await self._copies.send(job.id, _SEND_PATIENCE)

    def _running(self) -> list[str]:
        """Returns the ids of the running jobs; any thread may call it."""
        return [job.id for job in list(self._live.values()) if job.state is State.RUNNING]

    def _needed_files(self) -> set[str]:
        """Returns the names of the blobs of running jobs; any thread may call it."""
        running = [job for job in list(self._live.values()) if job.state is State.RUNNING]
        return {part.blob for job in running for part in job.spec.pictures()}

    def _release(self) -> None:
        """Releases an external database that was used with a temporary folder."""
        rights = self._archive.transactions.rights
        if isinstance(rights, Claim) and not (self.permanent or self._in_folder):
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                release(self._engine, rights)

    async def _remove_strays(self) -> None:
        """Removes files that an interrupted write has left; in the background, because there may be many files."""
        with contextlib.suppress(StorageError):
            if strays := await self._access.read(self._archive.stored.find_strays):
                await self._access.write(partial(self._archive.stored.remove_strays, strays))

    async def _delete_old_regularly(self) -> None:
        while True:
            with contextlib.suppress(StorageError):
                await self.delete_old()
            await asyncio.sleep(60)
