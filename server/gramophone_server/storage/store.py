"""The jobs of a server: live while they are on their way, kept in an archive for good."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import sqlalchemy as sa

from ..blobs import BlobStore
from ..messages.events import Event, Failure, Progress, Result
from ..messages.spec import JobSpec
from .access import LOCAL_ANSWER, REMOTE_ANSWER, Access
from .archive import Archive
from .clock import AgeClock
from .condition import PATIENCE, StorageCondition
from .connections import Lines
from .database import SchemaError, migrate, open_engine
from .errors import StorageAwayError, StorageError, StorageFullError, reason_of, trouble_of
from .folder import DataFolder, DataFolderError, remove_leftovers
from .ids import JobIds
from .job import Job
from .ownership import claim, release
from .query import Query
from .quotas import Retention

log = logging.getLogger(__name__)

# Seconds that figures may wait to be written; how many are read at once; how many of a job are all kept, before only as
# many more are as keep a curve smooth.
_FLUSH_EVERY, _PAGE, _DENSE = 2.0, 500, 4096
# After a crash a client may have seen events that were not written yet: new ones are numbered from well beyond those.
_SEQUENCE_GAP = 100_000
_UPLOADS_LAST = 24 * 3600.0
# Events that may wait to be written; of more, every other report goes.
_MOST_NEWS = 8192
# Seconds for which a server that starts waits for its database.
_START = 10.0


Write = Callable[[Callable[[], None]], Awaitable[None]]
"""What writes by calling a function in the thread for that."""


@dataclass
class _Ending:
    """An end of a job that is on its way to the archive."""

    job: Job
    event: Event
    written: asyncio.Future[None]


class JobStore:
    """Keeps jobs. A job that has been added, and an ending that watchers have seen, are on the disk.

    While the storage is away (see `condition`) nothing is lost: ends and events wait here until they can be written,
    live jobs are answered for from memory, and everything else is refused with StorageAwayError.

    Args:
        folder: where the files are.
        database: URL of the database; by default SQLite in the folder.
        retention: how long jobs are kept, and how much of them.
        take_database: whether to take a database that belongs to another folder.

    Raises:
        DataFolderError: the URL is none, or the database's driver is not installed.

    Attributes:
        condition: whether the storage can be used.
        files: pictures and results.
        ids: makes those of new jobs.
    """

    def __init__(
        self,
        folder: DataFolder,
        database: str | None = None,
        retention: Retention | None = None,
        *,
        take_database: bool = False,
    ) -> None:
        self.folder = folder
        self.ids = JobIds()
        self.files = BlobStore(folder.blobs)
        self._in_folder = database is None
        self._take = take_database
        self._clock = AgeClock()
        url = database or sa.URL.create("sqlite", database=str(folder.database))
        try:
            self._engine = open_engine(url, safe=folder.lasting)
        except (sa.exc.ArgumentError, ImportError) as error:
            folder.close()
            raise DataFolderError(
                f"the database cannot be used: {reason_of(error)}; give a URL such as "
                "postgresql+psycopg://user@host/name, and install what it needs: pip install 'gramophone[postgres]'"
            ) from error
        self._lines = Lines(self._engine)
        self._archive = Archive(self._engine, self.files, retention or Retention())
        self.condition = StorageCondition(self._recover)
        answer = LOCAL_ANSWER if self._engine.dialect.name == "sqlite" else REMOTE_ANSWER
        self._access = Access(self.condition, self._archive.stored.look, self._lines.cut, answer)
        self._live: dict[str, Job] = {}
        self._watched: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._news: list[tuple[Job, Event]] = []
        self._flushing = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._kept: dict[str, tuple[int, int]] = {}
        self._endings: dict[str, _Ending] = {}
        # Jobs whose submission was refused and that may be in the database all the same.
        self._doubted: set[str] = set()
        self._size = 0
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
        jobs = await asyncio.to_thread(self._open)
        for job in jobs:
            job.sequence += _SEQUENCE_GAP
            self._live[job.id] = job
        self._tasks = [asyncio.create_task(self._flush_often()), asyncio.create_task(self._forget_often())]
        return jobs

    async def ready(self) -> None:
        """Waits until the storage can be used, and a job's pictures can be read."""
        while True:
            await self.condition.good()
            with contextlib.suppress(StorageError):
                return await self._access.read(self._archive.stored.check_files)

    def check(self) -> None:
        """Sees that a new job can be kept, as far as is known without trying.

        Raises:
            StorageAwayError: the storage is away, and not only since a moment.
        """
        self.condition.check(brief=False)

    async def add(self, job: Job, spec: JobSpec, staged: Path | None = None) -> None:
        """Keeps a new job; it is safe when this returns.

        Args:
            staged: folder with the pixels that the spec names but does not hold, each in a file of its blob's name.

        Raises:
            StorageError: it cannot be kept, and will not run.
        """
        event = job.queue()
        # Known before it is in the archive, or whoever finds it there would get a copy that never changes.
        self._live[job.id] = job
        add = partial(self._archive.add, job, spec, event, staged)
        try:
            job.spec = await self._access.write(add, partial(self._doubted.add, job.id))
        except BaseException:
            del self._live[job.id]
            raise

    def record(self, job: Job, event: Event | None) -> None:
        """Has an event of a job that is not its end kept: a change of its state at once, its figures soon."""
        if event is not None and self._is_worth_keeping(job, event):
            if isinstance(event.detail, Progress):
                event = replace(event, detail=replace(event.detail, preview=None))
            self._news.append((job, event))
            if event.detail is None:
                self._urgent.set()

    async def end(self, job: Job, outcome: Result | Failure | None) -> None:
        """Ends a job: first in the archive, however long that takes, then for its watchers."""
        ending = _Ending(job, job.ending(outcome), asyncio.get_running_loop().create_future())
        self._endings[job.id] = ending
        await self.flush()
        try:
            await self._write_end(ending, self._access.write_once)
        except (StorageFullError, StorageAwayError) as error:
            log.warning("the end of job %s waits for the storage: %s", job.id, error.trouble.reason, extra=job.marks)
            self.condition.report(error.trouble)
            await ending.written

    def is_ending(self, job: Job) -> bool:
        """Whether the job has come to its end, be it written or not."""
        return job.state.final or job.id in self._endings

    async def get(self, job_id: str, *, with_result: bool = True) -> Job | None:
        """The job of that id.

        Raises:
            StorageError: it is not live, and the archive cannot be read.
        """
        if (job := self._live.get(job_id) or self._watched.get(job_id)) is not None:
            return job
        job = await self._access.read(partial(self._archive.load, job_id, with_result=with_result))
        if job is not None and with_result:
            # Many watchers of an old job share one copy of it.
            job = self._watched.setdefault(job.id, job)
        return job

    async def submitted_as(self, owner: str, request_id: str) -> Job | None:
        """The job that its client submitted under a name.

        Raises:
            StorageError: none that is live was, and the archive cannot be read.
        """
        for job in self._live.values():
            if (job.owner, job.request_id) == (owner, request_id):
                return job
        job_id = await self._access.read(partial(self._archive.submitted_as, owner, request_id))
        return await self.get(job_id) if job_id else None

    async def find(self, query: Query) -> list[Job]:
        """The jobs of a query, as they stand, without their results.

        Raises:
            StorageError: the archive cannot be read.
        """
        patience = await self._flush_first()
        found = await self._access.read(partial(self._archive.find, query), patience)
        return [self._live.get(job.id, job) for job in found]

    async def replay(self, job: Job, after: int) -> AsyncIterator[Event]:
        """All events of a job with a higher sequence than `after` that there have been so far.

        Of a live job whose storage is away, those that are held in memory: reports of long ago are left out.

        Raises:
            StorageError: the job has ended, and the archive cannot be read.
        """
        if not job.holds_all_after(after):
            patience = await self._flush_first()
            try:
                while page := await self._access.read(partial(self._archive.events, job.id, after, _PAGE), patience):
                    # The end the job itself holds.
                    for event in (event for event in page if not event.state.final):
                        yield event
                    after = page[-1].sequence - page[-1].state.final
                    if page[-1].state.final:
                        break
            except StorageAwayError:
                if job.id not in self._live:
                    raise
        unwritten = [event for known, event in self._news if known is job and event.sequence > after]
        held = {event.sequence: event for event in (*unwritten, *job.history(after))}
        for sequence in sorted(held):
            yield held[sequence]

    async def delete(self, job: Job) -> None:
        """Forgets a job that has ended.

        Raises:
            StorageError: it cannot be forgotten.
        """
        await self._access.write(partial(self._archive.delete, [job.id]))
        self._watched.pop(job.id, None)

    async def check_room(self, owner: str) -> None:
        """Sees that a client may keep more, be it little.

        Raises:
            QuotaExceededError: the client's jobs that have not ended take all that one may have.
            StorageError: that cannot be said.
        """
        await self._access.write(partial(self._archive.stored.make_room, owner, {"": 1}, is_upload=False))

    async def add_upload(self, owner: str, data: bytes) -> str:
        """Keeps a picture file of a client's; its SHA-256.

        Raises:
            QuotaExceededError: there is no room for it beside the client's jobs that have not ended.
            StorageError: it cannot be kept.
        """
        return await self._access.write(partial(self._archive.uploads.add, owner, data))

    async def add_upload_file(self, owner: str, name: str, size: int, file: Path) -> None:
        """Keeps a picture file of a client's that is on the disk: of so many bytes, with the SHA-256 `name`.

        Raises:
            QuotaExceededError: there is no room for it beside the client's jobs that have not ended.
            StorageError: it cannot be kept.
        """
        await self._access.write(partial(self._archive.uploads.add_file, owner, name, size, file))

    async def has_upload(self, owner: str, name: str) -> int | None:
        """The size of a file that a client has uploaded, if it has, and if it is as it was; it counts as used now.

        Raises:
            StorageError: that cannot be said.
        """
        size = await self._access.read(partial(self._archive.uploads.has, owner, name))
        if size is not None:
            await self._access.write(partial(self._archive.uploads.use, owner, name))
        return size

    async def upload_file(self, owner: str, name: str) -> Path | None:
        """The file that a client has uploaded, if it has; it counts as used now. It may have been damaged since.

        Raises:
            StorageError: the store cannot be read.
        """
        file = await self._access.read(partial(self._archive.uploads.file, owner, name))
        if file is not None:
            # A disk that is full does not keep it from being read.
            with contextlib.suppress(StorageError):
                await self._access.write(partial(self._archive.uploads.use, owner, name))
        return file

    async def flush(self) -> None:
        """Writes the events that wait; those that cannot be written now wait on."""
        await self._flush(self._access.write_once)

    async def forget(self) -> None:
        """Forgets ended jobs beyond what is to be kept, and pictures that nobody has used for a day.

        Raises:
            StorageError: that cannot be done now.
        """
        await self._access.write(partial(self._archive.stored.forget, self._clock.read(), _UPLOADS_LAST))

    async def look_over(self, job: Job) -> None:
        """Has it counted and logged which of a job's pictures are damaged, whoever has found that out."""
        for name in {part.blob for part in job.spec.pictures()}:
            with contextlib.suppress(StorageError):
                await self._access.read(partial(self.files.is_good, name))

    def size(self) -> int:
        """Bytes of all files of jobs and uploads. Blocks; what it was last if the database cannot say."""
        if self.condition.away is None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                self._size = self._archive.stored.size()
        return self._size

    async def close(self) -> None:
        """Writes what waits and can be written, and lets the folder go."""
        self.condition.close()
        for task in self._tasks:
            task.cancel()
        for job in self._live.values():
            job.close()
        await self.flush()
        if self._news:
            log.warning("%d events could not be written any more", len(self._news))
        await asyncio.to_thread(self._access.close)
        await asyncio.to_thread(self._release)
        self._engine.dispose()
        self.folder.close()

    async def _recover(self) -> None:
        """Uses the storage again: undoes what may have been written after it was refused, writes what waits."""
        await self._access.force(self._put_right)
        await self._flush(self._access.force)
        for ending in list(self._endings.values()):
            await self._write_end(ending, self._access.force)

    def _put_right(self) -> None:
        self._lines.renew()
        self._archive.stored.probe()
        if doubted := set(self._doubted):
            self._archive.disown(doubted)
            self._doubted -= doubted

    async def _flush_first(self) -> float:
        """Writes the events that wait, for what is about to be read; the patience that is left for reading."""
        begun = time.monotonic()
        await self.flush()
        return max(0.0, PATIENCE - (time.monotonic() - begun))

    async def _flush(self, write: Write) -> None:
        async with self._flushing:
            news, self._news = self._news, []
            if not news:
                return
            try:
                await write(partial(self._archive.record, news))
            except BaseException as error:
                self._news = _thinned(news + self._news)
                if isinstance(error, StorageFullError | StorageAwayError):
                    return
                if isinstance(error, Exception) and trouble_of(error) is None:
                    # Something is wrong with them; losing figures is no reason to lose jobs.
                    log.exception("%d events cannot be kept", len(self._news))
                    self._news = []
                    return
                raise

    async def _write_end(self, ending: _Ending, write: Write) -> None:
        job = ending.job
        try:
            await write(partial(self._archive.end, job, ending.event))
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is not None and not trouble.full:
                raise
            if trouble is not None:
                # The checkpoint is no longer worth the room it takes.
                self._forget_checkpoint(job)
            else:
                log.exception("the end of job %s cannot be kept", job.id, extra=job.marks)
                ending.event = job.ending(Failure("INTERNAL", f"The end of the job could not be kept: {error}"))
            await self._write_end_again(ending, write)
        self._ended(ending)

    async def _write_end_again(self, ending: _Ending, write: Write) -> None:
        try:
            await write(partial(self._archive.end, ending.job, ending.event))
        except Exception as error:
            if trouble_of(error) is not None:
                raise
            # Its watchers are told; the next server will run it again.
            log.exception("the end of job %s cannot be kept at all", ending.job.id, extra=ending.job.marks)

    def _ended(self, ending: _Ending) -> None:
        """Has a job ended whose end is written."""
        job = ending.job
        job.end(ending.event)
        self._watched[job.id] = self._live.pop(job.id, job)
        self._endings.pop(job.id, None)
        self._kept.pop(job.id, None)
        self._forget_checkpoint(job)
        if not ending.written.done():
            ending.written.set_result(None)

    def _forget_checkpoint(self, job: Job) -> None:
        with contextlib.suppress(OSError):
            self.folder.checkpoint(job.id).unlink(missing_ok=True)

    def _open(self) -> list[Job]:
        """Opens the database, and waits a little for one that is about to be started or is locked."""
        deadline = time.monotonic() + _START
        while True:
            try:
                return self._open_or_put_aside()
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise DataFolderError(f"the database of jobs cannot be used: {reason_of(error)}") from error
                log.warning("the database of jobs cannot be used yet: %s", reason_of(error))
            time.sleep(1.0)

    def _open_or_put_aside(self) -> list[Job]:
        try:
            return self._open_database()
        except (sa.exc.DatabaseError, SchemaError) as error:
            if isinstance(error, sa.exc.OperationalError):
                raise
            if isinstance(error, SchemaError) or not self._in_folder:
                raise DataFolderError(f"the database of jobs cannot be used: {reason_of(error)}") from error
            # The file is no database any more. It is put aside with the files that it names, not thrown away.
            suffix = f".damaged-{int(time.time())}"
            aside = self.folder.database.with_suffix(suffix)
            log.error(
                "the database of jobs is damaged (%s): it is now %s, its files are in %s, and a new one is begun",
                reason_of(error), aside, self.folder.blobs.with_suffix(suffix),
            )  # fmt: skip
            self._engine.dispose()
            self.folder.database.rename(aside)
            self.folder.blobs.rename(self.folder.blobs.with_suffix(suffix))
            self.folder.blobs.mkdir()
            for name in ("-wal", "-shm"):
                self.folder.database.with_name(self.folder.database.name + name).unlink(missing_ok=True)
            return self._open_database()

    def _open_database(self) -> list[Job]:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise sa.exc.DatabaseError("PRAGMA quick_check", None, Exception(found))
        migrate(self._engine)
        # Before anything is touched that may be another server's.
        mine = claim(self._engine, self.folder, in_folder=self._in_folder, take=self._take, check=self._check_pictures)
        self._archive.transactions.claim = mine
        self._clock = AgeClock(mine.last)
        self._lines.made = True
        self.files.make()
        self.ids.follow(self._archive.latest())
        jobs = self._archive.unfinished()
        remove_leftovers(self.folder, frozenset(job.id for job in jobs))
        self._archive.stored.remove_strays()
        return jobs

    def _check_pictures(self) -> None:
        """Sees that the files of a database that is not taken from elsewhere are there."""
        if not self._take and self._archive.stored.has_files() and self.files.empty():
            raise DataFolderError(
                f"the pictures of the jobs in the database are not in {self.folder.blobs}, which is empty; bring them "
                "back (is it a mount?), or put any file there to go on without them"
            )

    def _release(self) -> None:
        """Gives up a database that outlives its folder."""
        if self._archive.transactions.claim is not None and not (self.lasting or self._in_folder):
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                release(self._engine, self._archive.transactions.claim)

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
            with contextlib.suppress(StorageError):
                await self.forget()
            await asyncio.sleep(60)


def _thinned(news: list[tuple[Job, Event]]) -> list[tuple[Job, Event]]:
    """Events that wait for long; of too many, all changes of state and every other report."""
    if len(news) <= _MOST_NEWS:
        return news
    return [(job, event) for i, (job, event) in enumerate(news) if i % 2 or event.detail is None]
