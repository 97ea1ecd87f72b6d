"""The scheduler: which job runs next, and where; and what becomes of it when that goes wrong."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..messages.estimate import Estimate
from ..messages.events import Failure, Progress
from ..messages.pipe import Outcome, Paused, Run, StorageUnavailable
from ..messages.spec import JobSpec, Picture
from ..models.layers import PoolingName
from ..settings import Limits, WorkerSettings
from ..storage.errors import Trouble
from ..storage.job import Job
from ..storage.store import JobStore
from .admission import Admission
from .executor import Executor, Features, WorkerDiedError
from .observer import Observer
from .queue import FairQueue

log = logging.getLogger(__name__)

# A job that runs out of memory is tried with half of it so often.
_SQUEEZES = 3
# Seconds that a worker gets to say whether a job fits, before the job is accepted without.
_PLANNING = 2.0
# A job whose pictures cannot be read is tried anew when the storage is good; so often if that is at once, with so many
# seconds between.
_READINGS, _AT_ONCE, _PAUSE = 5, 1.0, 2.0
# Seconds for which a call that cancels waits for the end to be written, and for which a server that stops does.
_CANCELLING, _ENDING = 0.4, 2.0


class DoesNotFitError(Exception):
    """The job needs more memory than any device has."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(estimate.refusal)
        self.device = estimate.device


@dataclass(frozen=True)
class Bounds:
    """How many jobs there may be, and how much they may cost.

    Attributes:
        queued: waiting, of all clients.
        queued_per_client: waiting, of one client.
        attempts: workers that one job may lose before it has failed.
        running_per_client: running at once, of one client; None for no bound.
    """

    queued: int = Limits.max_queued
    queued_per_client: int = Limits.max_queued
    attempts: int = WorkerSettings.attempts
    running_per_client: int | None = None


class Scheduler:
    """Runs jobs on whichever executor is free, in the order of `FairQueue`.

    Args:
        executors: one per device.
        store: where jobs are kept.
        observer: is told what becomes of them.

    Attributes:
        admission: where jobs come in.
    """

    def __init__(
        self,
        executors: Sequence[Executor],
        store: JobStore,
        bounds: Bounds | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.store = store
        self._executors = list(executors)
        self._bounds = bounds or Bounds()
        self._observer = observer or Observer()
        self._queue = FairQueue(self._bounds.running_per_client)
        self.admission = Admission(
            store, self._queue, self._bounds.queued, self._bounds.queued_per_client, self._admitted
        )
        self._work = asyncio.Semaphore(0)
        self._running: dict[str, Executor] = {}
        self._cancelled: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loops: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        self._mean_seconds = 10.0
        self.admission.retry_after = self._mean_seconds / len(self._executors)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether any job waits or runs."""
        return bool(self.waiting or self._running)

    async def start(self) -> None:
        """Takes up what an earlier server has left, starts the executors and hands them jobs from now on.

        Raises:
            DataFolderError: the store cannot be used.
        """
        for job in await self.store.open():
            self.store.record(job, job.queue())
            self._admitted(job)
            log.info("job %s is taken up again", job.id, extra=job.marks)
        self._loops = [asyncio.create_task(self._serve(executor)) for executor in self._executors]
        await asyncio.gather(*(executor.start() for executor in self._executors))

    async def cancel(self, job: Job) -> None:
        """Cancels a job: at once if it waits, at its next report if it runs.

        If its end cannot be written for now, this comes back all the same; the job does not run any more.
        """
        if job in self._queue:
            self._queue.remove(job)
            await asyncio.wait([self._in_background(self._end(job, None))], timeout=_CANCELLING)
        elif self.store.is_ending(job):
            return  # As it ends, it ends.
        elif job.id in self._running:
            self._cancelled.add(job.id)
            await self._running[job.id].cancel(job.id)
        else:
            # It has been found in the store before it was in the queue.
            self._cancelled.add(job.id)

    def cancel_soon(self, job: Job) -> None:
        """Cancels a job from where nothing can be awaited, such as a call that is itself being cancelled."""
        self._in_background(self.cancel(job))

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Features of a picture, whose pixels are in a folder, on an executor with no job if there is one."""
        return await self._free_executor().extract(model, picture, pixels, layers, gram=gram, pooling=pooling)

    async def estimate(self, spec: JobSpec) -> Estimate | Failure:
        """What the job would take where it would run."""
        return await self._free_executor().estimate(spec, timed=True)

    async def check_fits(self, spec: JobSpec) -> None:
        """Sees that the job fits on some device.

        Devices that are not open yet, or do not answer at once, are not waited for: a worker looks for itself before
        it begins.

        Raises:
            DoesNotFitError: it fits on none.
        """
        refused: Estimate | None = None
        for executor in self._executors:
            answer = None
            if executor.ready:
                with contextlib.suppress(TimeoutError):
                    answer = await asyncio.wait_for(executor.estimate(spec, timed=False), _PLANNING)
            if not isinstance(answer, Estimate) or answer.fits:
                return
            refused = answer
        if refused is not None:
            raise DoesNotFitError(refused)

    async def stop(self, grace: float) -> None:
        """Takes no more jobs and stops the executors.

        If the store outlives this server, running jobs are left at a checkpoint, for which they have `grace` seconds,
        and the next server takes all of them up; else those that wait fail, and those that run have `grace` seconds to
        be done.
        """
        self.admission.open = False
        if self.store.lasting:
            await asyncio.gather(*(executor.pause(job_id) for job_id, executor in list(self._running.items())))
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENDING):
                    for job in list(self._queue):
                        self._queue.remove(job)
                        await self._end(job, Failure("UNAVAILABLE", "The server was shut down before the job began."))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        for loop in self._loops:
            loop.cancel()
        if not self.store.lasting:
            for job_id in list(self._running):
                if (running := await self.store.get(job_id)) is not None:
                    failure = Failure("UNAVAILABLE", "The server was shut down before the job was done.")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._end(running, failure), _ENDING)
        await asyncio.gather(*(executor.stop() for executor in self._executors))
        await self.store.close()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _free_executor(self) -> Executor:
        """The one that would answer soonest."""
        busy = set(self._running.values())
        return min(self._executors, key=lambda e: (e.trouble is not None, not e.ready, e in busy))

    def _admitted(self, job: Job) -> None:
        self._queue.push(job)
        self._work.release()
        self._observer.queued(job)

    async def _serve(self, executor: Executor) -> None:
        while True:
            # Whoever is not ready takes no job from those that are.
            await executor.usable()
            await self._work.acquire()
            # Until then all jobs keep their places.
            await self.store.ready()
            if not executor.ready:
                self._work.release()
                continue
            # A cancelled job leaves the queue but not the semaphore; and what is left waits for the next server.
            job = self._queue.pop() if self.admission.open else None
            if job is None:
                continue
            self._running[job.id] = executor
            self._idle.clear()
            try:
                if job.id in self._cancelled:
                    await self._end(job, None)
                else:
                    await self._run(job, executor)
            except Exception as error:
                log.exception("job %s could not be run", job.id, extra=job.marks)
                await self._end(job, Failure("INTERNAL", f"The job could not be run: {error}."))
            finally:
                self._running.pop(job.id, None)
                self._cancelled.discard(job.id)
                if self._queue.done(job):
                    # Passed over before, it has no permit any more.
                    self._work.release()
                if not self._running:
                    self._idle.set()
                # Not held while the next one is waited for: with it goes its result.
                del job

    async def _run(self, job: Job, executor: Executor) -> None:
        self.store.record(job, job.start())
        self._observer.started(job)
        charged, begun = self._mean_seconds, time.monotonic()
        self._queue.charge(job.owner, charged)
        try:
            outcome: Outcome | WorkerDiedError = await self._attempt(job, executor)
        except WorkerDiedError as error:
            outcome = error
        seconds = time.monotonic() - begun
        self._queue.charge(job.owner, seconds - charged)
        match outcome:
            case Paused():
                log.info("job %s is left at a checkpoint", job.id, extra=job.marks)
            case WorkerDiedError():
                job.losses += outcome.begun
                await self._again(job, f"The worker process {outcome} while it ran the job")
            case Failure(code="RESOURCE_EXHAUSTED") if job.squeeze < _SQUEEZES:
                job.squeeze += 1
                await self._again(job, outcome.message.rstrip("."))
            case _:
                if isinstance(outcome, Failure) and outcome.code == "DATA_LOSS":
                    await self.store.look_over(job)
                await self._end(job, outcome)
                self._mean_seconds += 0.2 * (seconds - self._mean_seconds)
                self.admission.retry_after = self._mean_seconds / len(self._executors)

    async def _attempt(self, job: Job, executor: Executor) -> Outcome:
        """Has the job run; as long as its pictures cannot be read because the storage is away, again and again."""
        folder, readings = self.store.folder, 0
        task = Run(
            job.id, job.spec, folder.blobs, folder.checkpoint(job.id), job.attempts > 1, job.squeeze, dict(job.marks)
        )

        def report(progress: Progress) -> None:
            self.store.record(job, job.report(progress))
            self._observer.progressed(job, progress)

        while isinstance(outcome := await executor.run(task, report), StorageUnavailable):
            self.store.condition.report(Trouble(outcome.reason))
            readings = readings + 1 if await self._waited() < _AT_ONCE else 0
            if job.id in self._cancelled:
                return None
            if not self.admission.open:
                return Paused()
            if readings >= _READINGS:
                message = f"The job's pictures cannot be read from the server's disk: {outcome.reason}"
                return Failure("DATA_LOSS", f"{message}; submit the job again.")
            await asyncio.sleep(_PAUSE * readings)
        return outcome

    async def _waited(self) -> float:
        """Waits until the storage is good, or the server stops; the seconds that this took."""
        begun = time.monotonic()
        while self.admission.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.store.condition.good()
                    break
        return time.monotonic() - begun

    async def _again(self, job: Job, why: str) -> None:
        """Has a job that was interrupted run again, or fail if that has happened too often."""
        if job.id in self._cancelled:
            await self._end(job, None)
            return
        if job.losses >= self._bounds.attempts:
            times = "once" if job.losses == 1 else f"{job.losses} times"
            await self._end(job, Failure("INTERNAL", f"{why}, {times} by now; it is not tried again."))
            return
        if not self.admission.open:
            return  # For the next server, or for `stop` to end.
        log.warning("job %s goes back to the queue: %s", job.id, why, extra=job.marks)
        self.store.record(job, job.queue())
        self._admitted(job)

    async def _end(self, job: Job, outcome: Outcome) -> None:
        assert not isinstance(outcome, Paused | StorageUnavailable)
        if job.state.final:
            return
        await self.store.end(job, outcome)
        self._observer.ended(job)
        log.info("job %s %s", job.id, job.state.value, extra=job.marks)
