"""The executor of a device: one worker process and, while jobs share a CPU, further ones."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ..messages.estimate import Estimate
from ..messages.events import Failure, Progress
from ..messages.pipe import Outcome, RoomRequest, Run, Share, WorkerConfig
from ..messages.spec import JobSpec, Picture
from ..models.layers import PoolingName
from .executor import Features, WorkerDiedError
from .link import Launcher, LocalLauncher
from .process import ProcessExecutor
from .room import Room

log = logging.getLogger(__name__)

# Seconds without a job after which a further process is stopped.
_IDLE_TIMEOUT = 60.0
# Seconds until it is checked again whether there is memory for a further process.
_RETRY = 2.0


class DeviceExecutor:
    """Runs jobs on one device, or on several that divide each large picture among them and run one job at a time.

    The first worker process runs the jobs that run alone, and answers requests. On a GPU it also runs those that share
    the device, in one thread each. On a CPU each of these has a process, because the threads of one process wait for
    Python's lock: further processes are started when they are needed, and stopped when they were idle for a while. The
    jobs divide the CPU threads among them; a job that remains alone gets all of them at its next step.

    Args:
        changed: is called on the event loop when `ready`, `trouble` or `unopened` change.
        launcher: starts the processes; on this machine by default.
    """

    def __init__(
        self, config: WorkerConfig, changed: Callable[[], None] = lambda: None, launcher: Launcher | None = None
    ) -> None:
        self._config = config
        self._changed = changed
        self._launcher = launcher or LocalLauncher()
        self._on_room: Callable[[], None] = lambda: None
        self._room = Room()
        self._first = ProcessExecutor(config, self._update, self._admits, self._launcher)
        self._further: list[ProcessExecutor] = []
        # When each further process was started or ended its last job, by the monotonic clock.
        self._used: dict[ProcessExecutor, float] = {}
        # The process of each running job.
        self._places: dict[str, ProcessExecutor] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._lost = 0
        self._retry: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Starts the first process; returns before it is ready."""
        await self._first.start()

    def listen(self, on_room: Callable[[], None]) -> None:
        """Sets the function to call on the event loop when one more shared job may be able to run."""
        self._on_room = on_room

    def makes_room(self, jobs: int) -> bool:
        """Returns whether one more shared job can run now beside `jobs` shared ones; on a CPU, if a process is free.

        If none is, starts one if there are threads and memory for it.
        """
        most = self._config.workers.jobs_per_worker
        if "+" in self._config.device:
            return jobs == 0
        if not self._on_cpu:
            return jobs < most
        if not self._launcher.several:
            return jobs == 0
        if jobs < sum(process.ready for process in self._processes):
            return True
        starting = any(not process.ready for process in self._further)
        if len(self._processes) < min(most, self._first.threads) and not starting:
            if self._has_memory():
                self._start_further()
            elif self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(_RETRY, self._try_again)
        return False

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        """Runs a job until it ends or is paused.

        Raises:
            WorkerDiedError: the process died or none is free.
        """
        process = self._free_process() if task.shared and self._on_cpu else self._first
        if process is None:
            raise WorkerDiedError("has exited", begun=False)
        self._places[task.job_id] = process
        self._share_out()
        try:
            return await process.run(task, on_progress)
        finally:
            del self._places[task.job_id]
            self._room.leave(task.job_id)
            self._share_out()
            if process in self._used:
                self._stop_when_idle(process)

    async def cancel(self, job_id: str) -> None:
        """Asks the job to stop after its current iteration; a job that is not running yet, after its first."""
        await asyncio.gather(*(process.cancel(job_id) for process in self._places_of(job_id)))

    async def pause(self, job_id: str) -> None:
        """Asks the job to save a checkpoint after its current iteration and stop."""
        await asyncio.gather(*(process.pause(job_id) for process in self._places_of(job_id)))

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Returns features of a picture; jobs may run at the same time."""
        return await self._first.extract(model, picture, pixels, layers, gram=gram, pooling=pooling)

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        """Returns the job's estimated memory and time; jobs may run at the same time."""
        return await self._first.estimate(spec, timed=timed)

    @property
    def ready(self) -> bool:
        """Whether the first process has opened the device."""
        return self._first.ready

    @property
    def trouble(self) -> str | None:
        """Why the device cannot be used for now; None if it can, or is about to be opened."""
        return self._first.trouble

    @property
    def unopened(self) -> str | None:
        """Why the configured device could not be opened at all; None if it was open once or "auto" chose it."""
        return self._first.unopened

    @property
    def device(self) -> str:
        """Name of the device; empty until it is open."""
        return self._first.device

    @property
    def others(self) -> tuple[str, ...]:
        """GPUs beside this one that the setting "auto" also means."""
        return self._first.others

    @property
    def resident(self) -> int:
        """Bytes of memory that the processes held on the device at their last messages."""
        return sum(process.resident for process in self._processes if process.ready)

    @property
    def restarts(self) -> int:
        """Number of restarts of the processes."""
        return self._lost + sum(process.restarts for process in self._processes)

    async def wait_ready(self) -> None:
        """Waits until the first process has opened the device."""
        await self._first.wait_ready()

    async def stop(self) -> None:
        """Stops the processes and their jobs."""
        await asyncio.gather(*(process.stop() for process in self._processes), *self._ending)

    @property
    def _processes(self) -> list[ProcessExecutor]:
        return [self._first, *self._further]

    @property
    def _on_cpu(self) -> bool:
        return self._first.device == "cpu"

    def _idle_processes(self) -> list[ProcessExecutor]:
        return [process for process in self._further if process not in self._places.values()]

    def _free_process(self) -> ProcessExecutor | None:
        """Returns a process without a job, the first one if possible."""
        busy = set(self._places.values())
        return next((process for process in self._processes if process.ready and process not in busy), None)

    def _places_of(self, job_id: str) -> list[ProcessExecutor]:
        """Returns the process that runs a job; if none does, all that may be about to."""
        place = self._places.get(job_id)
        return self._processes if place is None else [place]

    def _try_again(self) -> None:
        self._retry = None
        self._on_room()

    def _update(self) -> None:
        self._share_out()
        self._changed()
        self._on_room()

    def _share_out(self) -> None:
        """Tells each process its threads, and which others there are."""
        if not self._on_cpu:
            return
        pids = {process: process.pid for process in self._processes if process.pid is not None}
        busy = [process for process in self._processes if process in self._places.values()]
        for process in self._processes:
            threads = 0
            if len(busy) > 1 and process in busy:
                each, more = divmod(self._first.threads, len(busy))
                threads = each + (busy.index(process) < more)
            process.share(Share(threads, tuple(pid for other, pid in pids.items() if other is not process)))

    def _has_memory(self) -> bool:
        """Returns whether there is memory for one more process and for a job there that is as large as the others."""
        planned = self._room.planned.values()
        needed = (len(self._processes) + 1) * self._first.idle + sum(planned) + max(planned, default=0)
        return not self._ending and needed <= self._first.available

    def _admits(self, request: RoomRequest) -> bool:
        """Returns whether a job may use its memory now; if it lacks memory, idle processes are stopped first."""
        if request.job_id not in self._room.planned and not self._room.fits(request.needed, request.available):
            for process in self._idle_processes():
                self._end(process)
            if self._ending:
                return False
        return self._room.enter(request.job_id, request.needed, request.available)

    def _start_further(self) -> None:
        log.info("one more worker process is started on %s, for jobs that share it", self.device)
        process = ProcessExecutor(self._config, self._update, self._admits, self._launcher)
        self._further.append(process)
        _keep(self._starting, process.start())
        self._stop_when_idle(process)

    def _stop_when_idle(self, process: ProcessExecutor) -> None:
        """Stops a further process if it gets no job for a while from now."""
        self._used[process] = now = time.monotonic()

        def check() -> None:
            if self._used.get(process) == now and process in self._idle_processes():
                self._end(process)

        asyncio.get_running_loop().call_later(_IDLE_TIMEOUT, check)

    def _end(self, process: ProcessExecutor) -> None:
        """Stops a further process in the background."""
        self._further.remove(process)
        del self._used[process]
        self._lost += process.restarts
        _keep(self._ending, process.stop())
        self._share_out()


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Runs work in the background, as one of the tasks until it is done."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
