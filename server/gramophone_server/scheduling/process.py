"""A worker process and the jobs that it runs."""

import asyncio
import contextlib
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ..messages.estimate import Estimate
from ..messages.events import Failure, Progress
from ..messages.pipe import (
    Cancel,
    Delayed,
    DeviceFailed,
    Ended,
    EstimateRequest,
    EstimateResponse,
    FeaturesRequest,
    FeaturesResponse,
    FromLink,
    Heartbeat,
    Outcome,
    Pause,
    Placed,
    Progressed,
    Ready,
    RoomGranted,
    RoomRequest,
    Run,
    Share,
    ToWorker,
    WorkerConfig,
)
from ..messages.spec import JobSpec, Picture
from ..models.layers import PoolingName
from .executor import Features, WorkerDiedError
from .link import Launcher, Link, LocalLauncher

log = logging.getLogger(__name__)

# A worker counts as hanging if it opens its device for longer than _OPENING seconds, or if one of its jobs sends no
# report for longer than _STUCK seconds.
_OPENING, _STUCK = 180.0, 1800.0
# Seconds between attempts to open a device: the first pause, doubled each time up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class ProcessExecutor:
    """Runs jobs in a worker process that uses one device.

    If the process dies, or hangs and is killed, its jobs can be run again and a new process is started: at once or, if
    the device could not be opened, after a growing pause.

    Args:
        changed: is called on the event loop when `ready`, `trouble` or `unopened` change.
        admits: is called on the event loop when a job asks for memory; returns whether the job may use it.
        launcher: starts the process; on this machine by default.

    Attributes:
        device: name of the device; empty until it is open.
        others: GPUs beside this one that the setting "auto" also means.
        threads: number of CPU threads of a job that runs alone.
        idle: bytes of memory that the process holds on the device without a job.
        resident: bytes of memory that the process held on the device at its last message.
        available: bytes that all processes of the device held and could still allocate at the last message.
        restarts: number of restarts of the process.
        trouble: why the worker cannot be used for now; None if it can, or is about to open a device that must exist.
        unopened: why the configured device could not be opened at all; None if it was open once or "auto" chose it.
    """

    def __init__(
        self,
        config: WorkerConfig,
        changed: Callable[[], None] = lambda: None,
        admits: Callable[[RoomRequest], bool] = lambda request: True,
        launcher: Launcher | None = None,
    ) -> None:
        self._config = config
        self._launcher = launcher or LocalLauncher()
        self._changed = changed
        self._admits = admits
        # The last share that the process was told.
        self._shared = Share()
        self._background: set[asyncio.Task[None]] = set()
        # When the process was last heard of, by the monotonic clock; in the future while it may open its device.
        self._last_heard = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._link: Link | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._request_ids = itertools.count(1)
        self._on_progress: dict[str, Callable[[Progress], None]] = {}
        self._endings: dict[str, asyncio.Future[Outcome]] = {}
        self._stopping = False
        self._answers: dict[int, asyncio.Future[Any]] = {}
        # Set while the device is open.
        self._is_ready = asyncio.Event()
        # Set once it is known whether the device can be opened; clear while a process starts.
        self._is_known = asyncio.Event()
        self._exited = asyncio.Event()
        # The process's last message about its device, if it could not open or use it.
        self._device_error: str | None = None
        self._opened = False
        self.device = ""
        self.others: tuple[str, ...] = ()
        self.threads = 1
        self.idle = self.resident = self.available = 0
        self.restarts = 0
        self.trouble: str | None = None
        self.unopened: str | None = None
        # A configured CUDA device may not exist; a CPU always does.
        if config.device.startswith("cuda"):
            self.trouble = f"{config.device} has not been opened yet"

    async def start(self) -> None:
        """Starts the process and restarts it whenever it dies; returns before it is ready."""
        if not self._tasks and not self._stopping:
            self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._kill_if_silent())]

    async def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._exited.clear()
            try:
                async with self._starting:
                    await self._launch()
            except OSError as error:
                self._set_trouble(f"no worker process can be started: {error.strerror or error}")
            else:
                await self._exited.wait()
            if self.trouble is None:
                pause = _FIRST_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            self.restarts += 1

    async def _launch(self) -> None:
        link = await asyncio.to_thread(self._launcher.launch)
        # A broken pipe means that the process has just died; the reader thread reports it.
        with contextlib.suppress(OSError):
            # The configuration must be the first message. It fits the pipe's empty buffer, so this does not block.
            link.send(self._config)
        self._link = link
        self._shared = Share()
        self._last_heard = time.monotonic() + _OPENING
        self._device_error = None
        threading.Thread(target=self._read, args=(link, asyncio.get_running_loop()), daemon=True).start()

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        """Runs a job until it ends or is paused.

        Raises:
            WorkerDiedError: the process died or is not ready.
        """
        if not self.ready:
            raise WorkerDiedError("has exited", begun=False)
        self._on_progress[task.job_id] = on_progress
        ending: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._endings[task.job_id] = ending
        try:
            await self._send(task)
            return await ending
        finally:
            del self._on_progress[task.job_id], self._endings[task.job_id]

    def share(self, share: Share) -> None:
        """Tells the process its share of the device, before all later jobs; does nothing if it knows."""
        if self.ready and share != self._shared:
            self._shared = share
            self._in_background(self._send_whole(share))

    async def cancel(self, job_id: str) -> None:
        """Asks the job to stop after its current iteration; a job that is being sent to the worker, after its first."""
        await self._send(Cancel(job_id))

    async def pause(self, job_id: str) -> None:
        """Asks the job to save a checkpoint after its current iteration and stop."""
        await self._send(Pause(job_id))

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Returns features of a picture; a job may run at the same time."""
        question = FeaturesRequest(next(self._request_ids), model, picture, pixels, layers, gram, pooling)
        features: Features | Failure = await self._ask(question)
        return features

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        """Returns the job's estimated memory and time; another job may run at the same time."""
        estimate: Estimate | Failure = await self._ask(
            EstimateRequest(next(self._request_ids), spec.without_pixels(), timed)
        )
        return estimate

    @property
    def ready(self) -> bool:
        """Whether the process has opened its device."""
        return self._is_ready.is_set()

    @property
    def pid(self) -> int | None:
        """The id of the process; None before its first start, and on another machine."""
        return None if self._link is None else self._link.pid

    async def wait_ready(self) -> None:
        """Waits until the process has opened its device."""
        await self._is_ready.wait()

    async def _ask(self, question: FeaturesRequest | EstimateRequest) -> Any:
        await self._is_known.wait()
        if self.trouble is not None:
            return Failure("UNAVAILABLE", f"No worker can be used: {self.trouble}. Try again later.")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[question.request_id] = answer
        try:
            await self._send(question)
            return await answer
        except WorkerDiedError as error:
            return Failure("UNAVAILABLE", f"The worker process {error}; try again.")
        finally:
            del self._answers[question.request_id]

    async def stop(self) -> None:
        """Closes the pipe, which makes the process exit, and kills the process if it does not."""
        self._stopping = True
        # Wait until a process that is being started is known, so that it can be stopped.
        async with self._starting:
            for task in self._tasks:
                task.cancel()
        if self._link is not None:
            await asyncio.to_thread(self._link.stop)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _send(self, message: ToWorker) -> None:
        # A canceled caller must not leave half a message in the pipe, nor release the lock before the rest is sent.
        await asyncio.shield(self._in_background(self._send_whole(message)))

    async def _send_whole(self, message: ToWorker) -> None:
        async with self._sending:
            if self._link is None:
                return
            # A broken pipe means that the process has just died; the reader thread reports it, and waiting calls fail.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._link.send, message)

    def _read(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        # Runs in its own thread, because receiving a message blocks until the whole message has arrived.
        with contextlib.suppress(RuntimeError):  # RuntimeError: the event loop has closed.
            while True:
                try:
                    message = link.receive()
                except (EOFError, OSError):
                    break
                loop.call_soon_threadsafe(self._handle, message)
            loop.call_soon_threadsafe(self._died, link.wait())

    def _handle(self, message: FromLink) -> None:
        self._last_heard = max(self._last_heard, time.monotonic())
        match message:
            case Heartbeat(stuck, resident, available):
                self.resident, self.available = resident, available
                if stuck > _STUCK:
                    self._kill("a job has not progressed", stuck)
            case Ready(device, others):
                self.device, self.others, self.threads = device, others, message.threads
                self.idle = self.resident = message.idle
                self.available = message.available
                self._last_heard = time.monotonic()
                self.trouble = self.unopened = None
                self._opened = True
                self._is_ready.set()
                self._is_known.set()
                log.info("worker %s is ready on %s", self._link.name if self._link else "?", device)
                self._changed()
            case Delayed(reason):
                # It may wait forever, until there is a place.
                self._last_heard = math.inf
                log.info("a worker waits: %s", reason)
                self._unusable(reason)
            case Placed():
                self._last_heard = time.monotonic() + _OPENING
            case DeviceFailed(device, reason):
                self._device_error = f"{device} cannot be used: {reason}"
            case RoomRequest(job_id) if job_id in self._endings:
                if self._admits(message):
                    self._in_background(self._send_whole(RoomGranted(job_id)))
            case Progressed(job_id, progress) if job_id in self._on_progress:
                self._on_progress[job_id](progress)
            case Ended(job_id, outcome) if job_id in self._endings:
                self._endings[job_id].set_result(outcome)
            case FeaturesResponse(request_id, answer) | EstimateResponse(request_id, answer) if (
                request_id in self._answers
            ):
                self._answers[request_id].set_result(answer)

    async def _kill_if_silent(self) -> None:
        while True:
            await asyncio.sleep(1)
            silent, link = time.monotonic() - self._last_heard, self._link
            if silent > self._config.workers.hang_timeout and link is not None and link.running:
                self._kill("it has not sent a message", silent)

    def _kill(self, why: str, seconds: float) -> None:
        assert self._link is not None
        log.error("worker %s hangs and is killed: %s for %.0f s", self._link.name, why, seconds)
        self._link.kill()

    def _died(self, reason: str) -> None:
        if self._device_error is not None:
            reason = f"has lost its device: {self._device_error}"
        if self._is_ready.is_set():
            self._is_ready.clear()
            self._is_known.clear()
            if not self._stopping:
                log.warning("a worker process %s", reason)
        elif not self._stopping:
            if not self._opened and self._device_error is not None and self._config.device != "auto":
                self.unopened = self._device_error
            died = f"a worker process for {self._config.device} {reason} before it was ready"
            self._set_trouble(self._device_error or died)
        self._exited.set()
        waiting: list[asyncio.Future[Any]] = [*self._endings.values(), *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDiedError(reason, jobs=len(self._endings)))
        self._changed()

    def _set_trouble(self, trouble: str) -> None:
        """Sets `trouble`, and logs it unless it is the same as before."""
        if trouble != self.trouble and self.unopened is None:
            log.error("a worker cannot be used, and will be started again: %s", trouble)
        self._unusable(trouble)

    def _unusable(self, trouble: str) -> None:
        self.trouble = trouble
        self._is_known.set()
        self._changed()
