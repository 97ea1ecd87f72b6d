"""The scheduler runs queued jobs on executors, and retries or ends jobs that fail."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..messages.estimate import Estimate
from ..messages.events import Failure, Progress
from ..messages.pipe import Outcome, Paused, Run, StorageUnavailable
from ..messages.spec import JobSpec, Picture
from ..models.layers import PoolingName
from ..settings import Limits, WorkerSettings
from ..storage.errors import StorageError, Trouble
from ..storage.job import Job
from ..storage.store import JobStore
from .admission import Admission
from .crew import Crew, runs_alone
from .executor import Executor, Features, WorkerDiedError
from .observer import Observer
from .queue import FairQueue, JobQueue

if TYPE_CHECKING:
    from ..storage.cluster.store import ClusterStore

log = logging.getLogger(__name__)

# How often a job that runs out of memory is tried again, each time with half of the memory.
_MAX_SQUEEZES = 3
# Seconds to wait for a worker to estimate whether a job fits; without an answer the job is accepted.
_ESTIMATE_TIMEOUT = 2.0
# A job whose pictures cannot be read is run again when the storage is good. It fails after _MAX_READ_FAILURES attempts
# in a row between which the storage was away for less than _BRIEF seconds. Attempt n waits n * _PAUSE seconds.
_MAX_READ_FAILURES, _BRIEF, _PAUSE = 5, 1.0, 2.0
# Seconds to wait until the end of a job is stored: in a CancelJob call, and during a shutdown.
_CANCEL_TIMEOUT, _END_TIMEOUT = 0.4, 2.0
# The mean device time of jobs is taken over about this many of the latest jobs.
_MEAN_OVER = 5


class DoesNotFitError(Exception):
    """The job does not fit in the memory of any device."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(estimate.refusal)
        self.device = estimate.device


@dataclass(frozen=True)
class Bounds:
    """Limits on jobs.

    Attributes:
        queued: maximum waiting jobs of all clients.
        queued_per_client: maximum waiting jobs of one client.
        attempts: number of workers that may die on one job before the job fails.
        running_per_client: maximum running jobs of one client; None for no limit.
    """

    queued: int = Limits.max_queued
    queued_per_client: int = Limits.max_queued
    attempts: int = WorkerSettings.attempts
    running_per_client: int | None = None


class Scheduler:
    """Runs jobs on free executors, in the order of `FairQueue`.

    Args:
        executors: one per device.
        store: stores the jobs.
        bounds: limits on jobs.
        observer: is told what happens to jobs.

    Attributes:
        admission: accepts or refuses new jobs.
    """

    def __init__(
        self,
        executors: Sequence[Executor],
        store: JobStore,
        bounds: Bounds | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.store = store
        self._bounds = bounds or Bounds()
        self._observer = observer or Observer()
        self._queue = _queue_of(store, self._bounds.running_per_client)
        self.admission = Admission(
            store, self._queue, self._bounds.queued, self._bounds.queued_per_client, self._admitted
        )
        self._crews: list[Crew] = []
        # Set when a job may be able to start: one was queued, or one has ended.
        self._work = asyncio.Event()
        self._running: dict[str, Executor] = {}
        # Ids of jobs to cancel, and of those that other fronts of a cluster have taken over.
        self._cancelled: set[str] = set()
        self._lost: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loops: list[asyncio.Task[None]] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._mean_seconds, self._measured = 10.0, 0
        for executor in executors:
            self._hire(executor)
        self.admission.retry_after = self._mean_seconds / len(self._crews)
        store.listen(self)

    @property
    def _executors(self) -> list[Executor]:
        return [crew.executor for crew in self._crews]

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether any job waits or runs."""
        return bool(self.waiting or self._running)

    async def start(self) -> None:
        """Queues the unfinished jobs of an earlier server, starts the executors and begins to run jobs.

        Raises:
            DataFolderError: the store cannot be used.
        """
        for job in await self.store.open():
            self.store.record(job, job.queue())
            self._admitted(job)
            log.info("job %s of an earlier server is queued again", job.id, extra=job.marks)
        self._loops = [asyncio.create_task(self._serve(crew)) for crew in self._crews]
        await asyncio.gather(*(executor.start() for executor in self._executors))

    async def add(self, executor: Executor) -> None:
        """Starts one more executor, which begins to run jobs."""
        self._loops.append(asyncio.create_task(self._serve(self._hire(executor))))
        await executor.start()

    def _hire(self, executor: Executor) -> Crew:
        """Adds an executor, without jobs."""
        executor.listen(self._wake)
        self._crews.append(crew := Crew(executor))
        return crew

    async def cancel(self, job: Job) -> None:
        """Cancels a job: at once if it waits, after its current iteration if it runs.

        Returns after `_CANCEL_TIMEOUT` seconds even if the end of a waiting job cannot be stored yet; the job does not
        run any more.
        """
        if self._queue.discard(job):
            await asyncio.wait([self._in_background(self._end(job, None))], timeout=_CANCEL_TIMEOUT)
        elif self.store.is_ending(job):
            return  # The job has ended already: it keeps its outcome.
        elif job.id in self._running:
            self._cancelled.add(job.id)
            await self._running[job.id].cancel(job.id)
        elif not await self.store.cancel_elsewhere(job):
            # The job is stored but not queued yet; `_serve` cancels it when it is popped.
            self._cancelled.add(job.id)

    async def _cancel_elsewhere(self, job: Job) -> None:
        with contextlib.suppress(StorageError):
            await self.store.cancel_elsewhere(job)

    def work(self) -> None:
        """Looks for a job that can start: another front of the cluster has added or given back one."""
        self._wake()

    def canceled(self, job_id: str) -> None:
        """Cancels a running job, for a client of another front."""
        if job_id in self._running and job_id not in self._cancelled:
            self._cancelled.add(job_id)
            self._in_background(self._running[job_id].cancel(job_id))

    def lost(self, job: Job) -> None:
        """Stops a running job that another front has taken over."""
        if job.id in self._running:
            log.warning("job %s is continued by another server", job.id, extra=job.marks)
            self._lost.add(job.id)
            self._in_background(self._running[job.id].cancel(job.id))

    def cancel_soon(self, job: Job) -> None:
        """Cancels a job in the background, for callers that cannot await."""
        self._in_background(self.cancel(job))

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Returns features of a picture, from an idle executor if there is one; see `Executor.extract`."""
        return await self._best_executor().extract(model, picture, pixels, layers, gram=gram, pooling=pooling)

    async def estimate(self, spec: JobSpec) -> Estimate | Failure:
        """Returns the job's estimated memory and time on the best executor."""
        return await self._best_executor().estimate(spec, timed=True)

    async def check_fits(self, spec: JobSpec) -> None:
        """Checks that the job fits in the memory of at least one device.

        A device that is not open yet or does not answer in time passes the check: the worker checks again before it
        runs the job.

        Raises:
            DoesNotFitError: the job fits on no device.
        """
        refused: Estimate | None = None
        for executor in self._executors:
            answer = None
            if executor.ready:
                with contextlib.suppress(TimeoutError):
                    answer = await asyncio.wait_for(executor.estimate(spec, timed=False), _ESTIMATE_TIMEOUT)
            if not isinstance(answer, Estimate) or answer.fits:
                return
            refused = answer
        if refused is not None:
            raise DoesNotFitError(refused)

    async def stop(self, grace: float) -> None:
        """Stops admission and the executors, and closes the store.

        If the store is permanent, running jobs have `grace` seconds to save a checkpoint, and the next server continues
        all jobs. If the store is temporary, waiting jobs fail, and running jobs have `grace` seconds to finish.
        """
        self.admission.open = False
        if self.store.permanent:
            await asyncio.gather(*(executor.pause(job_id) for job_id, executor in list(self._running.items())))
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT):
                    for job in self._queue.drain():
                        await self._end(job, Failure("UNAVAILABLE", "The server was shut down before the job started."))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        for task in (*self._loops, *self._serving):
            task.cancel()
        if not self.store.permanent:
            for job_id in list(self._running):
                if (running := await self.store.get(job_id)) is not None:
                    failure = Failure("UNAVAILABLE", "The server was shut down before the job was done.")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._end(running, failure), _END_TIMEOUT)
        await asyncio.gather(*(executor.stop() for executor in self._executors))
        await self.store.close()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _best_executor(self) -> Executor:
        """Returns the executor that will answer first: without trouble, ready, and idle if possible."""
        busy = set(self._running.values())
        return min(self._executors, key=lambda e: (e.trouble is not None, not e.ready, e in busy))

    def _admitted(self, job: Job) -> None:
        self._queue.push(job)
        self._wake()
        if not self.store.shared:
            self._observer.queued(job)

    def _wake(self) -> None:
        """Lets the loops of all executors look for a job that can start."""
        work, self._work = self._work, asyncio.Event()
        work.set()

    async def _serve(self, crew: Crew) -> None:
        """Starts jobs on an executor forever."""
        executor = crew.executor
        while True:
            # An executor that is not ready must not take a job from one that is.
            await executor.wait_ready()
            # Jobs stay in the queue until the storage can be used.
            await self.store.ready()
            if not executor.ready:
                continue
            work = self._work
            if not await self._starts_next(crew):
                await work.wait()

    async def _starts_next(self, crew: Crew) -> bool:
        """Starts the next job on an executor if it can run there now; returns whether one was started."""
        # No job starts while the server is shutting down.
        job = await self._next_job(crew) if self.admission.open else None
        if job is None:
            return False
        if not self.admission.open:
            # The shutdown has begun while the job was leased.
            await self._queue.settle(job, 0.0)
            await self.store.give_back(job)
            self._queue.done(job)
            return False
        self._running[job.id] = crew.executor
        if self.store.shared:
            self._observer.queued(job)
        self._idle.clear()
        crew.add(job)
        task = asyncio.create_task(self._serve_job(job, crew))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return True

    async def _next_job(self, crew: Crew) -> Job | None:
        """Removes and returns the next job if it can start on an executor now."""
        idle = any(other.executor.ready and not other.jobs for other in self._crews)
        # A job shares a device only if no device is idle.
        if crew.jobs and idle:
            return None
        return await self._queue.next(crew.accepts, self._mean_seconds, self._running.keys())

    async def _serve_job(self, job: Job, crew: Crew) -> None:
        """Runs a job that has been added to a crew, or cancels it, and removes it from the crew."""
        try:
            if job.id in self._cancelled:
                crew.remove(job)
                await self._queue.settle(job, 0.0)
                await self._end(job, None)
            else:
                await self._run(job, crew)
        except Exception as error:
            log.exception("job %s could not be run", job.id, extra=job.marks)
            await self._end(job, Failure("INTERNAL", f"The job could not be run: {error}."))
        finally:
            if job in crew.jobs:
                crew.remove(job)
            self._running.pop(job.id, None)
            if self.store.shared and job.id in self._cancelled and not job.state.final:
                # It was canceled while it went back to the queue of the cluster.
                self._in_background(self._cancel_elsewhere(job))
            self._cancelled.discard(job.id)
            self._lost.discard(job.id)
            self._queue.done(job)
            if self.store.shared and not job.state.final:
                self._observer.left(job)
            self._wake()
            if not self._running:
                self._idle.set()

    async def _run(self, job: Job, crew: Crew) -> None:
        self.store.record(job, job.start())
        self._observer.started(job)
        try:
            outcome: Outcome | WorkerDiedError = await self._attempt(job, crew.executor)
        except WorkerDiedError as error:
            outcome = error
            self._count_loss(job, error)
        seconds = crew.remove(job)
        await self._queue.settle(job, seconds)
        if job.id in self._lost:
            return
        match outcome:
            case Paused():
                log.info("job %s is paused at a checkpoint", job.id, extra=job.marks)
                await self.store.pause(job)
            case WorkerDiedError():
                await self._requeue_or_fail(job, f"The worker process {outcome} while it ran the job")
            case Failure(code="RESOURCE_EXHAUSTED") if job.squeeze < _MAX_SQUEEZES:
                job.squeeze += 1
                await self._requeue_or_fail(job, outcome.message.rstrip("."))
            case _:
                if isinstance(outcome, Failure) and outcome.code == "DATA_LOSS":
                    await self.store.check_pictures(job)
                await self._end(job, outcome)
                self._update_mean(seconds)

    def _count_loss(self, job: Job, error: WorkerDiedError) -> None:
        """Counts the death of a worker against its only job; of several jobs, each is suspected."""
        if not error.begun:
            return
        if error.jobs == 1:
            job.losses += 1
        else:
            job.suspected = True

    def _update_mean(self, seconds: float) -> None:
        """Adds the device time of an ended job to the mean; the first one replaces the initial estimate."""
        self._measured += 1
        self._mean_seconds += (seconds - self._mean_seconds) / min(self._measured, _MEAN_OVER)
        self.admission.retry_after = self._mean_seconds / len(self._crews)

    async def _attempt(self, job: Job, executor: Executor) -> Outcome:
        """Runs the job; runs it again if its pictures could not be read because the storage was away."""
        read_failures, checkpoint = 0, await self.store.checkpoint(job)
        task = Run(
            job.id, job.spec, self.store.folder.blobs, checkpoint, job.attempts > 1, job.squeeze, dict(job.marks),
            shared=not runs_alone(job),
        )  # fmt: skip

        def report(progress: Progress) -> None:
            if job.id in self._lost:
                return
            self.store.record(job, job.report(progress))
            self._observer.progressed(job, progress)

        async def run() -> Outcome:
            return await self.store.prepare(job) or await executor.run(task, report)

        while isinstance(outcome := await run(), StorageUnavailable):
            self.store.condition.report(Trouble(outcome.reason))
            read_failures = read_failures + 1 if await self._wait_for_storage() < _BRIEF else 0
            if job.id in self._cancelled or job.id in self._lost:
                return None
            if not self.admission.open:
                return Paused()
            if read_failures >= _MAX_READ_FAILURES:
                message = f"The job's pictures cannot be read from the server's disk: {outcome.reason}"
                return Failure("DATA_LOSS", f"{message}; submit the job again.")
            await asyncio.sleep(_PAUSE * read_failures)
        return outcome

    async def _wait_for_storage(self) -> float:
        """Waits until the storage is good or the server shuts down; returns the seconds waited."""
        begun = time.monotonic()
        while self.admission.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.store.condition.good()
                    break
        return time.monotonic() - begun

    async def _requeue_or_fail(self, job: Job, why: str) -> None:
        """Queues an interrupted job again, or fails it if too many workers have died on it."""
        if job.id in self._cancelled:
            await self._end(job, None)
            return
        if job.losses >= self._bounds.attempts:
            times = "once" if job.losses == 1 else f"{job.losses} times"
            await self._end(job, Failure("INTERNAL", f"{why} ({times} so far); the job is not tried again."))
            return
        if not self.admission.open:
            return  # The next server continues the job, or `stop` ends it.
        log.warning("job %s goes back to the queue: %s", job.id, why, extra=job.marks)
        await self.store.give_back(job)
        self._admitted(job)

    async def _end(self, job: Job, outcome: Outcome) -> None:
        assert not isinstance(outcome, Paused | StorageUnavailable)
        if job.state.final or job.id in self._lost:
            return
        await self.store.end(job, outcome)
        if job.id in self._lost:
            return
        self._observer.ended(job)
        log.info("job %s %s", job.id, job.state.value, extra=job.marks)


def _queue_of(store: JobStore, max_running: int | None) -> JobQueue:
    """Returns the queue of a store's jobs, with a maximum of running jobs of one client."""
    if not store.shared:
        return FairQueue(max_running)
    # Import on demand: a server without a cluster needs neither the time nor the memory.
    from .shared_queue import SharedQueue

    return SharedQueue(cast("ClusterStore", store), max_running)
