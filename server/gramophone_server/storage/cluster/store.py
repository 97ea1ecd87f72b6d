"""The job store of a front of a cluster: it holds the jobs that this front leases, and copies of others."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ...messages.events import Event, Failure, Progress, Result, State
from ...messages.spec import JobSpec
from ..errors import StorageAwayError, StorageError, StorageFullError, Trouble, reason_of, trouble_of
from ..folder import DataFolder, DataFolderError
from ..job import Job
from ..notice import CANCEL, EVENTS, WATCH, WORK, of_job
from ..opening import DatabaseOpener
from ..quotas import Retention
from ..store import CheckRoom, Ending, JobStore, News
from .leases import Leases, QueueRules
from .membership import StaleLeaseError, leave, name_in_database, renew, take_over_expired
from .mirrors import Mirrors
from .notices import Listener
from .opening import ClusterOpener

if TYPE_CHECKING:
    from ..objects.files import RemoteFiles

log = logging.getLogger(__name__)

# Seconds between polls for what notices should have told, and between writes for watchers at other fronts.
_POLL, _PUBLISH = 2.0, 0.4
# Seconds for which previews are written after another front has asked for them; it asks again at each poll.
_WATCHED = 4 * _POLL
# Seconds that a ping of the database may take: its many servers may be busy, and to connect again takes as long.
_PING_TIMEOUT = 2.0
# How often, and after how many seconds each time, it is checked whether a preview has arrived.
_PREVIEW_TRIES, _PREVIEW_PAUSE = 20, 0.05
# Renewals in the time of a lease.
_RENEWALS = 3


class ClusterStore(JobStore):
    """Stores jobs beside other fronts that use the same database and the same folder.

    A job that no front holds waits in the database. `take` leases it to this front, which then is the only one that
    may write its events and its end. Jobs of other fronts are read from the database, also by their watchers here.

    Args:
        folder: the data folder, which all fronts share unless their files are in an object store.
        remote: the files of jobs in an object store, which all fronts share; None for files in the folder.
        database: URL of the database, of PostgreSQL with the driver psycopg.
        lease: seconds after which other fronts take over the jobs of a front that has not renewed its leases.

    Raises:
        DataFolderError: the URL is not one of PostgreSQL with psycopg, or the folder is temporary.
    """

    shared = True

    def __init__(
        self,
        folder: DataFolder,
        database: str | None,
        retention: Retention | None = None,
        *,
        take_database: bool = False,
        remote: "RemoteFiles | None" = None,
        lease: float = 10.0,
    ) -> None:
        _check(folder, database)
        self._lease = lease
        super().__init__(folder, database, retention, take_database=take_database, remote=remote)
        # A front that stops in the middle of a transaction must not keep its locks longer than its leases.
        self._connections.longest_pause = lease
        self._leases = Leases(self._archive)
        self._mirrors = Mirrors(self._archive, self._access, self._watched, self._live.__contains__)
        self._listener = Listener(self._engine.url, self._hear)
        self._news: News | None = None
        # The latest preview of each job that is to be written, and until when other fronts want previews.
        self._previews: dict[str, Event] = {}
        self._wanted: dict[str, float] = {}
        self._sending: set[asyncio.Task[None]] = set()
        # A thread of its own: other work must not delay a renewal.
        self._renewer = ThreadPoolExecutor(1, thread_name_prefix="leases")

    def _make_opener(self, *, take: bool) -> DatabaseOpener:
        self._joiner = ClusterOpener(
            self._engine, self._connections, self.folder, self.files, self._archive, self.ids, in_folder=False,
            take=take,
        )  # fmt: skip
        self._joiner.lease = self._lease
        return self._joiner

    @property
    def _name_in_database(self) -> str:
        return name_in_database(self.folder.staging.name)

    @property
    def _ping_timeout(self) -> float:
        return _PING_TIMEOUT

    @property
    def token(self) -> int:
        """The token of this front: lower than those of fronts that join later."""
        return self._joiner.member.token

    def listen(self, news: News) -> None:
        """Sets whom to tell what other fronts do."""
        self._news = news

    async def open(self) -> list[Job]:
        """Joins the cluster; returns no jobs, because unfinished ones wait in the database.

        Raises:
            DataFolderError: the database cannot be used.
        """
        opened = await super().open()
        self._listener.start()
        for loop in (self._keep_leases, self._poll, self._publish):
            self._tasks.append(asyncio.create_task(loop()))
        return opened

    async def add(self, job: Job, spec: JobSpec, staged: Path | None = None, check: CheckRoom = bool) -> None:
        """Stores a new job, which any front may take; it is on disk when this returns.

        Raises:
            StorageError: the job cannot be stored and will not run.
            AlreadySubmittedError: another front has just stored the client's job with this request id.
        """
        self._watched[job.id] = job
        add = partial(self._archive.add, job, spec, job.queue(), staged, partial(self._leases.admit, job, check))
        # A client that gets an error may submit the job again at another front, which then finds it by its request id
        # and acknowledges it: such a job must not be deleted.
        in_doubt = partial(self._in_doubt.add, job.id) if job.request_id is None else None
        job.spec = await self._access.write(add, in_doubt)

    async def waiting(self) -> dict[str, int]:
        """Returns the number of waiting jobs of each client, at all fronts.

        Raises:
            StorageError: the database cannot be read.
        """
        return await self._access.read(self._leases.waiting)

    async def peek(self, rules: QueueRules, but: Collection[str]) -> Job | None:
        """Returns a copy of the next job; see `Leases.peek`.

        Raises:
            StorageError: the database cannot be read.
        """
        return await self._access.read(partial(self._leases.peek, rules, but))

    async def take(self, rules: QueueRules, but: Collection[str], seconds: float, wanted: str | None) -> Job | None:
        """Leases the next job to this front; see `Leases.take`.

        Raises:
            StorageError: the storage cannot be used.
        """
        while True:
            token = self.token
            job = await self._access.write(partial(self._leases.take, token, rules, but, seconds, wanted))
            if job is None or token != self.token:
                return None
            # Watchers of the job at this front hold an object of it already.
            held = self._watched.get(job.id, job)
            held.catch_up(job.history())
            held.attempts, held.start_time, held.spec = job.attempts, job.start_time, job.spec
            held.losses, held.suspected, held.squeeze = job.losses, job.suspected, job.squeeze
            self._live[job.id] = held
            if not held.state.final:
                return held
            # Its record cannot be read.
            await super().end(held, held.outcome)

    async def settle(self, owner: str, seconds: float, rules: QueueRules) -> None:
        """Corrects the device time that a client was charged; does nothing if the storage cannot be used."""
        with contextlib.suppress(StorageError):
            await self._access.write(partial(self._leases.settle, owner, seconds, rules))

    async def give_back(self, job: Job) -> None:
        """Stores that an interrupted job waits again, for any front; waits until that is stored."""
        await self._send_checkpoint(job)
        self.record(job, job.queue())
        while job.id in self._live:
            try:
                await self.flush()
                if not self._buffer.of(job, 0):
                    await self._access.write(partial(self._leases.give_back, job))
                    break
            except StorageFullError:
                await asyncio.sleep(1.0)
            except StorageAwayError:
                pass
            await self.condition.good()
        if self._live.pop(job.id, None) is not None:
            self._watched[job.id] = job
            self._buffer.close(job)
            # Another front may have taken it already.
            self._mirrors.update_soon(job.id)

    async def pause(self, job: Job) -> None:
        """Gives a job with a checkpoint to other fronts."""
        await self.give_back(job)

    async def cancel_elsewhere(self, job: Job) -> bool:
        """Cancels a job that waits, or that another front runs.

        Raises:
            StorageError: the storage cannot be used.
        """
        await self._access.write(partial(self._leases.cancel, job.id))
        await self._mirrors.update(job)
        return True

    async def fetch_preview(self, job: Job) -> None:
        """Asks the front that runs a job for its preview, and waits a moment for the answer."""
        if job.id in self._live or not _lacks_preview(job):
            return
        self._ask_for_previews([job.id])
        for _ in range(_PREVIEW_TRIES):
            await asyncio.sleep(_PREVIEW_PAUSE)
            if not _lacks_preview(job):
                break

    async def checkpoint(self, job: Job) -> Path:
        """Returns the file of a job's checkpoint, which is first that of the front that ran it before."""
        if job.attempts > 1 and not self.folder.private:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.folder.adopt_checkpoint, job.id)
        return self.folder.checkpoint(job.id)

    def record(self, job: Job, event: Event | None) -> None:
        """Stores a non-final event in the background, and its preview if clients watch it at other fronts."""
        if event is None or job.id not in self._live:
            return
        super().record(job, event)
        if _has_preview(event) and self._wanted.get(job.id, 0.0) > time.monotonic():
            self._previews[job.id] = event

    async def end(self, job: Job, outcome: Result | Failure | None) -> None:
        """Ends a job of this front; returns without an effect if another front has taken it over."""
        if job.id in self._live:
            await super().end(job, outcome)

    async def get(self, job_id: str, *, with_result: bool = True) -> Job | None:
        """Returns the job with this id, up to date; None if there is none.

        Raises:
            StorageError: another front may hold the job, and the database cannot be read.
        """
        job = self._live.get(job_id) or self._watched.get(job_id)
        if job is None:
            job = await super().get(job_id, with_result=with_result)
            return job and self._live.get(job_id, job)
        if job_id in self._live or job.state.final:
            return job
        return job if await self._mirrors.update(job) else None

    async def replay(self, job: Job, after: int) -> AsyncIterator[Event]:
        """Yields all past events of a job with a sequence above `after`; asks its front for previews.

        Raises:
            StorageError: another front may hold the job, and the database cannot be read.
        """
        self._ask_for_previews([job.id])
        async for event in super().replay(job, after):
            yield event

    async def close(self) -> None:
        """Gives back the jobs of this front, and leaves the cluster."""
        await self._listener.stop()
        self._mirrors.close()
        for task in list(self._sending):
            task.cancel()
        self._renewer.shutdown(wait=False)
        await super().close()

    async def _recover(self) -> None:
        """Tests the storage; if this front has lost its leases, drops its jobs and joins again."""
        await self._access.force(self._connections.renew)
        if not await self._access.force(partial(renew, self._engine, self._joiner.member)):
            await self._access.force(self._joiner.join_again)
            log.warning("this server had lost its leases: others continue its %d jobs", len(self._live))
            for job in list(self._live.values()):
                self._lose(job)
        await super()._recover()

    def _not_ended(self, ending: Ending) -> None:
        self._lose(ending.job)

    def _lose(self, job: Job) -> None:
        """Drops a job that another front has taken over; its watchers go on with what that front stores."""
        if self._live.pop(job.id, None) is None:
            return
        self._watched[job.id] = job
        self._buffer.drop(job)
        self._previews.pop(job.id, None)
        ending = self._endings.pop(job.id, None)
        if ending is not None and not ending.written.done():
            ending.written.set_result(None)
        if self._news is not None:
            self._news.lost(job)
        self._mirrors.update_soon(job.id)

    def _release(self) -> None:
        with contextlib.suppress(sa.exc.SQLAlchemyError, AttributeError):
            leave(self._engine, self._joiner.member)
        shutil.rmtree(self.folder.staging, ignore_errors=True)

    def _hear(self, notice: str) -> None:
        """Is called with each notice of any front."""
        word, _, job_id = notice.partition(" ")
        if word == EVENTS:
            self._mirrors.update_soon(job_id)
        elif word == WATCH:
            # The job may still wait: this front may be the one that takes it.
            job = self._live.get(job_id)
            if job is not None and self._wanted.get(job_id, 0.0) < time.monotonic():
                self._previews.update((job_id, event) for event in job.history() if _has_preview(event))
            self._wanted[job_id] = time.monotonic() + _WATCHED
        elif self._news is not None and word == CANCEL and job_id in self._live:
            self._news.canceled(job_id)
        elif self._news is not None and word == WORK:
            self._news.work()

    async def _keep_leases(self) -> None:
        """Renews the leases of this front, and takes over those of fronts that have not."""
        renewing = partial(asyncio.get_running_loop().run_in_executor, self._renewer)
        while True:
            await asyncio.sleep(self._lease / _RENEWALS)
            try:
                if not await renewing(renew, self._engine, self._joiner.member):
                    raise StaleLeaseError
            except (sa.exc.SQLAlchemyError, OSError) as error:
                self.condition.report(trouble_of(error) or Trouble(str(error)))
                continue
            try:
                await renewing(take_over_expired, self._engine, self._joiner.member, self.folder)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                # Such as a lock: the next time will do.
                log.warning("expired leases could not be taken over: %s", reason_of(error))

    async def _poll(self) -> None:
        """Looks regularly for what a lost notice should have told."""
        while True:
            await asyncio.sleep(_POLL)
            self._hear(WORK)
            # While the storage is away, nothing changes that could be read.
            with contextlib.suppress(StorageError):
                for job_id in await self._access.read(self._leases.canceled, 0.0) if self._live else ():
                    self._hear(of_job(CANCEL, job_id))
                for job_id in await self._mirrors.find_changed():
                    self._mirrors.update_soon(job_id)
                self._ask_for_previews([job.id for job in self._mirrors.unfinished()])

    async def _publish(self) -> None:
        """Writes previews and progress soon while clients watch at other fronts."""
        while True:
            await asyncio.sleep(_PUBLISH)
            new, self._previews = self._previews, {}
            now = time.monotonic()
            self._wanted = {job_id: until for job_id, until in self._wanted.items() if until > now}
            with contextlib.suppress(StorageError):
                for job_id, event in new.items():
                    await self._access.write_once(partial(self._archive.keep_preview, job_id, event))
                if self._wanted:
                    await self.flush()

    def _ask_for_previews(self, ids: Collection[str]) -> None:
        """Tells the fronts that hold these jobs that clients watch them here."""
        if wanted := [of_job(WATCH, job_id) for job_id in ids if job_id not in self._live]:
            task = asyncio.create_task(self._send(wanted))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, notices: Collection[str]) -> None:
        with contextlib.suppress(StorageError):
            await self._access.read(partial(self._leases.send, notices), 0.0)


def _lacks_preview(job: Job) -> bool:
    return job.state is State.RUNNING and job.preview is None


def _has_preview(event: Event) -> bool:
    return isinstance(event.detail, Progress) and event.detail.preview is not None


def _check(folder: DataFolder, database: str | None) -> None:
    """Checks the settings of a cluster.

    Raises:
        DataFolderError: the database is not PostgreSQL with psycopg, or the folder is temporary.
    """
    try:
        driver = sa.make_url(database or "").drivername
    except sa.exc.ArgumentError:
        driver = ""
    reason = ""
    if driver != "postgresql+psycopg":
        reason = "--cluster needs one PostgreSQL database for all servers, such as --database postgresql+psycopg://…"
    elif not folder.permanent:
        reason = "--cluster needs --data, a folder that all servers of the cluster share"
    if reason:
        folder.close()
        raise DataFolderError(reason)
