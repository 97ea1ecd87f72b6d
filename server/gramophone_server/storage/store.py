"""The jobs of a server: live while they are on their way, kept in an archive for good."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import sqlalchemy as sa

from ..blobs import BlobStore
from ..messages.events import Event, Failure, Result
from ..messages.spec import JobSpec
from .access import LOCAL_ANSWER, REMOTE_ANSWER, Access
from .archive import Archive
from .clock import AgeClock
from .condition import StorageCondition
from .connections import Lines
from .database import open_engine
from .errors import StorageAwayError, StorageError, StorageFullError, reason_of, trouble_of
from .folder import DataFolder, DataFolderError
from .ids import JobIds
from .job import Job
from .news import News, Write
from .opening import Opening
from .ownership import release
from .query import Query
from .quotas import Retention

log = logging.getLogger(__name__)

# Events that are read at once.
_PAGE = 500
# After a crash a client may have seen events that were not written yet: new ones are numbered from well beyond those.
_SEQUENCE_GAP = 100_000
_UPLOADS_LAST = 24 * 3600.0


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
        self._opening = Opening(
            self._engine, self._lines, folder, self.files, self._archive, self.ids,
            in_folder=self._in_folder, take=take_database,
        )  # fmt: skip
        self.condition = StorageCondition(self._recover)
        answer = LOCAL_ANSWER if self._engine.dialect.name == "sqlite" else REMOTE_ANSWER
        self._access = Access(self.condition, self._archive.stored.look, self._lines.cut, answer)
        self._live: dict[str, Job] = {}
        self._watched: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._news = News(self._archive, self._access)
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
        opened = await asyncio.to_thread(self._opening.open)
        self._clock = opened.clock
        for job in opened.jobs:
            job.sequence += _SEQUENCE_GAP
            self._live[job.id] = job
        self._tasks = [asyncio.create_task(self._news.flush_often()), asyncio.create_task(self._forget_often())]
        return opened.jobs

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
        if event is not None:
            self._news.record(job, event)

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
        patience = await self._news.flush_first()
        found = await self._access.read(partial(self._archive.find, query), patience)
        return [self._live.get(job.id, job) for job in found]

    async def replay(self, job: Job, after: int) -> AsyncIterator[Event]:
        """All events of a job with a higher sequence than `after` that there have been so far.

        Of a live job whose storage is away, those that are held in memory: reports of long ago are left out.

        Raises:
            StorageError: the job has ended, and the archive cannot be read.
        """
        if not job.holds_all_after(after):
            patience = await self._news.flush_first()
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
        held = {event.sequence: event for event in (*self._news.of(job, after), *job.history(after))}
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
        await self._news.flush(self._access.write_once)

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
        await self._news.flush(self._access.force)
        for ending in list(self._endings.values()):
            await self._write_end(ending, self._access.force)

    def _put_right(self) -> None:
        self._lines.renew()
        self._archive.stored.probe()
        if doubted := set(self._doubted):
            self._archive.disown(doubted)
            self._doubted -= doubted

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
        self._news.close(job)
        self._forget_checkpoint(job)
        if not ending.written.done():
            ending.written.set_result(None)

    def _forget_checkpoint(self, job: Job) -> None:
        with contextlib.suppress(OSError):
            self.folder.checkpoint(job.id).unlink(missing_ok=True)

    def _release(self) -> None:
        """Gives up a database that outlives its folder."""
        if self._archive.transactions.claim is not None and not (self.lasting or self._in_folder):
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                release(self._engine, self._archive.transactions.claim)

    async def _forget_often(self) -> None:
        while True:
            with contextlib.suppress(StorageError):
                await self.forget()
            await asyncio.sleep(60)
