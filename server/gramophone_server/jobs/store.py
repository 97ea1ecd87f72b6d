"""The jobs of a server: live while they are on their way, kept in an archive for good."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import sqlalchemy as sa

from .archive import Archive, Query
from .blobs import BlobStore, DamagedBlobError
from .database import SchemaError, migrate, open_engine
from .events import Event, Failure, Progress, Result
from .folder import DataFolder, DataFolderError, remove_leftovers
from .job import Job
from .spec import JobSpec

log = logging.getLogger(__name__)

_T = TypeVar("_T")
# Seconds that figures may wait to be written; how many are read at once; how many of a job are all kept, before only as
# many more are as keep a curve smooth.
_FLUSH_EVERY, _PAGE, _DENSE = 2.0, 500, 4096
# After a crash a client may have seen events that were not written yet: new ones are numbered from well beyond those.
_SEQUENCE_GAP = 100_000
_UPLOADS_LAST = 24 * 3600.0


class StorageError(Exception):
    """The store cannot keep or find something; the message is for the client."""


@dataclass(frozen=True)
class Retention:
    """How long ended jobs are kept: so many seconds, and as long as all files together are at most so many bytes."""

    seconds: float = 30 * 24 * 3600.0
    bytes: int = 20 << 30


class JobStore:
    """Keeps jobs. A job that has been added, and an ending that watchers have seen, are on the disk.

    Args:
        folder: where the files are.
        database: URL of the database; by default SQLite in the folder.
    """

    def __init__(self, folder: DataFolder, database: str | None = None, retention: Retention | None = None) -> None:
        self.folder = folder
        self._url = database or sa.URL.create("sqlite", database=str(folder.database))
        self._in_folder = database is None
        self._retention = retention or Retention()
        # One thread writes, so that things are kept in the order in which they happened.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._live: dict[str, Job] = {}
        self._watched: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._news: list[tuple[Job, Event]] = []
        self._urgent = asyncio.Event()
        self._kept: dict[str, tuple[int, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def lasting(self) -> bool:
        """Whether the jobs outlive this server."""
        return self.folder.lasting

    async def open(self) -> list[Job]:
        """Opens the archive; the jobs that a server before this one has left unfinished, in the order to run them.

        Raises:
            DataFolderError: the database cannot be used.
        """
        jobs = await self._write(self._open)
        for job in jobs:
            job.sequence += _SEQUENCE_GAP
            self._live[job.id] = job
        self._tasks = [asyncio.create_task(self._flush_often()), asyncio.create_task(self._forget_often())]
        return jobs

    async def add(self, job: Job, spec: JobSpec, staged: Path | None = None) -> None:
        """Keeps a new job; it is safe when this returns.

        Args:
            staged: folder with the pixels that the spec names but does not hold, each in a file of its blob's name.

        Raises:
            StorageError: it cannot be kept.
        """
        event = job.queue()
        # Known before it is in the archive, or whoever finds it there would get a copy that never changes.
        self._live[job.id] = job
        try:
            job.spec = await self._keep(partial(self._archive.add, job, spec, event, staged))
        except BaseException:
            del self._live[job.id]
            raise

    def record(self, job: Job, event: Event | None) -> None:
        """Has an event of a job that is not its end kept: a change of its state at once, its figures soon."""
        if event is not None and self._is_worth_keeping(job, event):
            self._news.append((job, event))
            if event.detail is None:
                self._urgent.set()

    async def end(self, job: Job, outcome: Result | Failure | None) -> None:
        """Ends a job: first in the archive, then for its watchers."""
        await self.flush()
        event = job.ending(outcome)
        try:
            await self._keep(partial(self._archive.end, job, event))
        except StorageError:
            # The checkpoint is no longer worth the room it takes.
            self._forget_checkpoint(job)
            event = await self._end_again(job, event)
        job.end(event)
        self._watched[job.id] = self._live.pop(job.id, job)
        self._kept.pop(job.id, None)
        self._forget_checkpoint(job)

    async def spec(self, job: Job) -> JobSpec:
        """The job's spec with its pixels.

        Raises:
            StorageError: they are lost.
        """
        try:
            return await asyncio.to_thread(self._archive.spec, job.id)
        except (DamagedBlobError, sa.exc.SQLAlchemyError, OSError, ValueError) as error:
            log.exception("job %s cannot be read", job.id, extra=job.marks)
            raise StorageError(f"The job's pictures were lost or damaged on the server's disk: {error}") from error

    async def get(self, job_id: str, *, with_result: bool = True) -> Job | None:
        """The job of that id."""
        if (job := self._live.get(job_id) or self._watched.get(job_id)) is not None:
            return job
        job = await self._read(partial(self._archive.load, job_id, with_result=with_result))
        if job is not None and with_result:
            # Many watchers of an old job share one copy of it.
            job = self._watched.setdefault(job.id, job)
        return job

    async def submitted_as(self, owner: str, request_id: str) -> Job | None:
        """The job that its client submitted under a name."""
        job_id = await self._read(partial(self._archive.submitted_as, owner, request_id))
        return await self.get(job_id) if job_id else None

    async def find(self, query: Query) -> list[Job]:
        """The jobs of a query, as they stand, without their results."""
        await self.flush()
        found = await self._read(partial(self._archive.find, query))
        return [self._live.get(job.id, job) for job in found]

    async def replay(self, job: Job, after: int) -> AsyncIterator[Event]:
        """All events of a job with a higher sequence than `after` that there have been so far."""
        if not job.holds_all_after(after):
            await self.flush()
            while page := await self._read(partial(self._archive.events, job.id, after, _PAGE)):
                # The end the job itself holds.
                for event in (event for event in page if not event.state.final):
                    yield event
                after = page[-1].sequence - page[-1].state.final
                if page[-1].state.final:
                    break
        for event in job.history(after):
            yield event

    async def delete(self, job: Job) -> None:
        """Forgets a job that has ended.

        Raises:
            StorageError: it cannot be forgotten.
        """
        self._watched.pop(job.id, None)
        await self._keep(partial(self._archive.delete, [job.id]))

    async def add_upload(self, owner: str, data: bytes) -> str:
        """Keeps a picture file of a client's; its SHA-256.

        Raises:
            StorageError: it cannot be kept.
        """
        return await self._keep(partial(self._archive.add_upload, owner, data))

    async def add_upload_file(self, owner: str, name: str, size: int, file: Path) -> None:
        """Keeps a picture file of a client's that is on the disk: of so many bytes, with the SHA-256 `name`.

        Raises:
            StorageError: it cannot be kept.
        """
        await self._keep(partial(self._archive.add_upload_file, owner, name, size, file))

    async def has_upload(self, owner: str, name: str) -> int | None:
        """The size of a file that a client has uploaded, if it has."""
        return await self._keep(partial(self._archive.has_upload, owner, name))

    async def upload_file(self, owner: str, name: str) -> Path | None:
        """The file that a client has uploaded, if it has; it may have been damaged since.

        Raises:
            StorageError: the store cannot be read.
        """
        return await self._read(partial(self._archive.upload_file, owner, name))

    async def flush(self) -> None:
        """Writes the events that wait."""
        news, self._news = self._news, []
        if news:
            try:
                await self._write(partial(self._archive.record, news))
            except (sa.exc.SQLAlchemyError, OSError) as error:
                # Losing figures is no reason to lose jobs.
                log.warning("%d events could not be kept: %s", len(news), _reason(error))

    async def forget(self) -> None:
        """Forgets ended jobs beyond what is to be kept, and pictures that nobody has used for a day."""
        now, keep = time.time(), self._retention
        expired = partial(self._archive.expired, ended_before=now - keep.seconds, most_bytes=keep.bytes)
        for_good = await self._write(expired)
        if for_good:
            log.info("forgetting %d ended jobs", len(for_good))
            await self._write(partial(self._archive.delete, for_good))
        await self._write(partial(self._archive.forget_uploads, unused_since=now - _UPLOADS_LAST))

    def size(self) -> int:
        """Bytes of all files of jobs and uploads. Blocks; 0 if the database cannot say."""
        try:
            return self._archive.size()
        except sa.exc.SQLAlchemyError:
            return 0

    async def close(self) -> None:
        """Writes what waits and lets the folder go."""
        for task in self._tasks:
            task.cancel()
        for job in self._live.values():
            job.close()
        await self.flush()
        await asyncio.to_thread(self._writer.shutdown)
        self._engine.dispose()
        self.folder.close()

    async def _end_again(self, job: Job, event: Event) -> Event:
        """Keeps the end of a job once more; the event that ends it, which may have become a failure."""
        try:
            await self._keep(partial(self._archive.end, job, event))
        except StorageError as error:
            if isinstance(event.detail, Result):
                # A failure takes little room, and if there is none even for that, the next server runs the job again.
                event = job.ending(Failure("RESOURCE_EXHAUSTED", f"The result could not be kept. {error}"))
                with contextlib.suppress(StorageError):
                    await self._keep(partial(self._archive.end, job, event))
        return event

    def _forget_checkpoint(self, job: Job) -> None:
        with contextlib.suppress(OSError):
            self.folder.checkpoint(job.id).unlink(missing_ok=True)

    def _open(self) -> list[Job]:
        try:
            return self._open_database()
        except (sa.exc.DatabaseError, SchemaError) as error:
            if isinstance(error, SchemaError | sa.exc.OperationalError) or not self._in_folder:
                raise DataFolderError(f"the database of jobs cannot be used: {_reason(error)}") from error
            # The file is no database any more. It is put aside, not thrown away, and the server goes on without.
            aside = self.folder.database.with_suffix(f".damaged-{int(time.time())}")
            log.error(
                "the database of jobs is damaged (%s): it is now %s, and a new one is begun", _reason(error), aside
            )
            self._engine.dispose()
            self.folder.database.rename(aside)
            for name in ("-wal", "-shm"):
                self.folder.database.with_name(self.folder.database.name + name).unlink(missing_ok=True)
            return self._open_database()

    def _open_database(self) -> list[Job]:
        self._engine = open_engine(self._url, safe=self.lasting)
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise sa.exc.DatabaseError("PRAGMA quick_check", None, Exception(found))
        migrate(self._engine)
        self._archive = Archive(self._engine, BlobStore(self.folder.blobs))
        jobs = self._archive.unfinished()
        remove_leftovers(self.folder, frozenset(job.id for job in jobs))
        self._archive.remove_strays()
        return jobs

    def _is_worth_keeping(self, job: Job, event: Event) -> bool:
        """Keeps the figures of a long job sparse enough that they do not grow with it for ever."""
        if not isinstance(event.detail, Progress):
            return True
        count, last = self._kept.get(job.id, (0, 0))
        if count >= _DENSE and event.detail.iteration < last * (1 + 1 / _DENSE):
            return False
        self._kept[job.id] = count + 1, event.detail.iteration
        return True

    async def _flush_often(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_EVERY):
                    await self._urgent.wait()
            self._urgent.clear()
            await self.flush()

    async def _forget_often(self) -> None:
        while True:
            try:
                await self.forget()
            except (sa.exc.SQLAlchemyError, OSError) as error:
                log.warning("old jobs could not be forgotten: %s", _reason(error))
            await asyncio.sleep(60)

    async def _keep(self, write: Callable[[], _T]) -> _T:
        try:
            return await self._write(write)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            log.error("the store cannot be written: %s", _reason(error))
            raise StorageError(f"The server cannot write to its disk: {_reason(error)}.") from error

    async def _write(self, write: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, write)

    async def _read(self, read: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(read)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            log.error("the store cannot be read: %s", _reason(error))
            raise StorageError(f"The server cannot read its disk: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (getattr(cause, "strerror", None) or str(cause).splitlines()[0]).rstrip(".")
