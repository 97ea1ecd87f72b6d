"""The scheduler: which job runs next, and where."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Sequence

from ..models.layers import PoolingName
from .estimate import Estimate
from .events import Failure
from .executor import Executor, Features
from .job import Job
from .spec import JobSpec, Picture
from .store import JobStore

log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """The queue has no room; `retry_after` is a guess at when it will, in seconds."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} jobs are waiting already, which is as many as this server lets wait")
        self.retry_after = retry_after


class DoesNotFitError(Exception):
    """The job needs more memory than any device has."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(estimate.refusal)
        self.device = estimate.device


class StoppingError(Exception):
    """The server is shutting down and takes no more jobs."""


class Scheduler:
    """Runs jobs first come, first served, on whichever executor is free.

    Args:
        executors: one per device.
        store: where jobs are kept.
        max_queued: most jobs that may wait; the next is refused.
    """

    def __init__(self, executors: Sequence[Executor], store: JobStore, *, max_queued: int = 64) -> None:
        self.store = store
        self._executors = list(executors)
        self._max_queued = max_queued
        self._queue: deque[Job] = deque()
        self._work = asyncio.Semaphore(0)
        self._running: dict[str, Executor] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._loops: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        self._mean_seconds = 10.0
        self._admitting = True

    async def start(self) -> None:
        """Starts the executors and hands them jobs from now on."""
        self._loops = [asyncio.create_task(self._serve(executor)) for executor in self._executors]
        await asyncio.gather(*(executor.start() for executor in self._executors))

    def submit(self, spec: JobSpec, owner: str = "") -> Job:
        """Queues a job of that owner.

        Raises:
            QueueFullError: too many jobs wait.
            StoppingError: the server is shutting down.
        """
        if not self._admitting:
            raise StoppingError("the server is shutting down")
        if len(self._queue) >= self._max_queued:
            raise QueueFullError(len(self._queue), self._mean_seconds / len(self._executors))
        job = Job(_new_id(), spec, owner)
        self.store.add(job)
        self._queue.append(job)
        self._work.release()
        log.info("job %s queued: %s %dx%d", job.id, spec.kind, spec.width, spec.height)
        return job

    async def cancel(self, job: Job) -> None:
        """Cancels a job: at once if it waits, at its next report if it runs."""
        if job in self._queue:
            self._queue.remove(job)
            job.end(None)
        elif job.id in self._running:
            await self._running[job.id].cancel(job.id)

    def cancel_soon(self, job: Job) -> None:
        """Cancels a job from where nothing can be awaited, such as a call that is itself being cancelled."""
        task = asyncio.create_task(self.cancel(job))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def extract(
        self, model: str, picture: Picture, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Features of a picture, on an executor with no job if there is one."""
        return await self._free_executor().extract(model, picture, layers, gram=gram, pooling=pooling)

    def _free_executor(self) -> Executor:
        busy = set(self._running.values())
        return next((e for e in self._executors if e not in busy), self._executors[0])

    async def estimate(self, spec: JobSpec) -> Estimate | Failure:
        """What the job would take where it would run."""
        return await self._free_executor().estimate(spec, timed=True)

    async def check_fits(self, spec: JobSpec) -> None:
        """Sees that the job fits on some device.

        Devices that are not open yet are not waited for: a worker looks for itself before it begins.

        Raises:
            DoesNotFitError: it fits on none.
        """
        refused: Estimate | None = None
        for executor in self._executors:
            answer = await executor.estimate(spec, timed=False) if executor.ready else None
            if not isinstance(answer, Estimate) or answer.fits:
                return
            refused = answer
        if refused is not None:
            raise DoesNotFitError(refused)

    async def stop(self, grace: float) -> None:
        """Takes no more jobs, fails those that wait, gives those that run `grace` seconds, and stops the executors."""
        self._admitting = False
        while self._queue:
            self._queue.popleft().end(Failure("UNAVAILABLE", "The server was shut down before the job began."))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        for job_id in list(self._running):
            if (job := self.store.get(job_id)) is not None:
                job.end(Failure("UNAVAILABLE", "The server was shut down before the job was done."))
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*(executor.stop() for executor in self._executors))

    async def _serve(self, executor: Executor) -> None:
        while True:
            await self._work.acquire()
            # A cancelled job leaves the queue but not the semaphore.
            if not self._queue:
                continue
            job = self._queue.popleft()
            self._running[job.id] = executor
            self._idle.clear()
            job.start()
            started = time.monotonic()
            try:
                outcome = await executor.run(job, job.report)
            except Exception as error:
                log.exception("job %s could not be run", job.id)
                outcome = Failure("INTERNAL", f"The job could not be run: {error}.")
            finally:
                del self._running[job.id]
                if not self._running:
                    self._idle.set()
            job.end(outcome)
            self._mean_seconds += 0.2 * (time.monotonic() - started - self._mean_seconds)
            log.info("job %s %s", job.id, job.state.value)


def _new_id() -> str:
    """An id that sorts by age and cannot be guessed: microseconds in hexadecimal, then 64 random bits."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(8)}"
