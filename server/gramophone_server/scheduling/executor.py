"""Executors: what runs jobs. The seam at which another kind of worker can be put in."""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from ..messages.estimate import Estimate
from ..messages.events import Failure, Progress
from ..messages.pipe import (
    Cancel,
    DeviceFailed,
    Ended,
    EstimateRequest,
    EstimateResponse,
    FeaturesRequest,
    FeaturesResponse,
    FromWorker,
    Heartbeat,
    Outcome,
    Pause,
    Progressed,
    Ready,
    Run,
    ToWorker,
    WorkerConfig,
)
from ..messages.spec import JobSpec, Picture
from ..models.layers import PoolingName

log = logging.getLogger(__name__)

# Threads that wait by spinning for long make a step several times slower as soon as anything else wants a core; those
# that do not spin at all make it slower on an idle machine. This is some tens of microseconds.
ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}
"""What a worker's process has in its environment, for what is decided before it runs."""

Features = tuple[tuple[str, tuple[int, ...], bytes], ...]


# Seconds that a worker may take to open its device, and may need from one report to the next; after that it hangs.
_OPENING, _STUCK = 180.0, 1800.0
# Seconds between attempts to open a device that cannot be opened: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# Seconds in which a process leaves whose pipe has closed; after that it is killed.
_LEAVING = 2.0


class WorkerDiedError(Exception):
    """The worker process died; the message says how, beginning with a verb.

    Attributes:
        begun: whether it had begun with the job.
    """

    def __init__(self, message: str, *, begun: bool = True) -> None:
        super().__init__(message)
        self.begun = begun


class Executor(Protocol):
    """Runs jobs on one device, one at a time."""

    async def start(self) -> None:
        """Opens it; returns before the device is warm."""
        ...

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        """Runs a job to its end.

        Raises:
            WorkerDiedError: what ran it is gone, and the job can be run again.
        """
        ...

    async def cancel(self, job_id: str) -> None:
        """Asks the job to stop at its next report, if it is the one running."""
        ...

    async def pause(self, job_id: str) -> None:
        """Asks the job to save a checkpoint at its next report and end there, if it is the one running."""
        ...

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Features of a picture, whose pixels are in a folder: layer, shape and float32 bytes of each."""
        ...

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        """What the job would take."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it can answer at once."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used for now; None if it can, or is about to open its device."""
        ...

    async def usable(self) -> None:
        """Waits until it is ready."""
        ...

    async def stop(self) -> None:
        """Closes it and ends what runs."""
        ...


class ProcessExecutor:
    """A worker process that owns one device.

    It is started as a fresh interpreter, never forked (neither gRPC nor CUDA survives a fork), talks over a socket
    pair, and leaves by itself when its end closes. If it dies, or hangs and is killed for it, the job at hand can be
    run again, and another is started: at once, or, if it could not open its device, after a pause that grows.

    Args:
        changed: is called when `ready`, `trouble` or `unopened` change, on the event loop.

    Attributes:
        device: what it runs on; empty until it has opened that.
        resident: bytes that it held there a moment ago.
        restarts: how often it was started anew.
        trouble: why it cannot be used for now; None if it can, or is about to open a device that is sure to be there.
        unopened: why the device that it was told to open could not be opened, if it never was; else None.
    """

    def __init__(self, config: WorkerConfig, changed: Callable[[], None] = lambda: None) -> None:
        self._config = config
        self._changed = changed
        self._heard = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._reader: threading.Thread | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._request_ids = itertools.count(1)
        self._on_progress: dict[str, Callable[[Progress], None]] = {}
        self._endings: dict[str, asyncio.Future[Outcome]] = {}
        self._stopping = False
        self._answers: dict[int, asyncio.Future[Any]] = {}
        # One of the two once it is known how the device is, both while it is ready, neither while a process starts.
        self._up, self._settled = asyncio.Event(), asyncio.Event()
        self._gone = asyncio.Event()
        # What the process said of its device before it left.
        self._lost: str | None = None
        self._opened = False
        self.device = ""
        self.resident = 0
        self.restarts = 0
        self.trouble: str | None = None
        self.unopened: str | None = None
        # A CUDA device that was named may not be there; a CPU is.
        if config.device.startswith("cuda"):
            self.trouble = f"{config.device} has not been opened yet"

    async def start(self) -> None:
        """Has a process there from now on; returns before it is ready."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._keep_up()), asyncio.create_task(self._watch())]

    async def _keep_up(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._gone.clear()
            try:
                async with self._starting:
                    await self._launch()
            except OSError as error:
                self._say(f"no worker process can be started: {error.strerror or error}")
            else:
                await self._gone.wait()
            if self.trouble is None:
                pause = _FIRST_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            self.restarts += 1

    async def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.to_thread(self._spawn, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        connection = Connection(ours.detach())
        # A broken pipe means that the process has just died; the reader reports it.
        with contextlib.suppress(OSError):
            # Before anybody else can send. It is small: the empty buffer of a socket takes it at once.
            connection.send(self._config)
        self._connection = connection
        self._heard = time.monotonic() + _OPENING
        self._lost = None
        self._reader = threading.Thread(
            target=self._read, args=(self._connection, self._process, asyncio.get_running_loop()), daemon=True
        )
        self._reader.start()

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        """Runs a job to its end.

        Raises:
            WorkerDiedError: the process died, or is not there.
        """
        if not self.ready:
            raise WorkerDiedError("has left", begun=False)
        self._on_progress[task.job_id] = on_progress
        ending: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._endings[task.job_id] = ending
        try:
            await self._send(task)
            return await ending
        finally:
            del self._on_progress[task.job_id], self._endings[task.job_id]

    async def cancel(self, job_id: str) -> None:
        """Asks the job to stop at its next report; one that is about to be sent stops at its first."""
        await self._send(Cancel(job_id))

    async def pause(self, job_id: str) -> None:
        """Asks the job to save a checkpoint at its next report and end there."""
        await self._send(Pause(job_id))

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Features of a picture, beside whatever job is running."""
        question = FeaturesRequest(next(self._request_ids), model, picture, pixels, layers, gram, pooling)
        features: Features | Failure = await self._ask(question)
        return features

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        """What the job would take, beside whatever job is running."""
        estimate: Estimate | Failure = await self._ask(
            EstimateRequest(next(self._request_ids), spec.without_pixels(), timed)
        )
        return estimate

    @property
    def ready(self) -> bool:
        """Whether the process has opened its device."""
        return self._up.is_set()

    async def usable(self) -> None:
        """Waits until the process has opened its device."""
        await self._up.wait()

    async def _ask(self, question: FeaturesRequest | EstimateRequest) -> Any:
        await self._settled.wait()
        if self.trouble is not None:
            return Failure("UNAVAILABLE", f"No worker can answer: {self.trouble}. Ask again later.")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[question.request_id] = answer
        try:
            await self._send(question)
            return await answer
        except WorkerDiedError as error:
            return Failure("UNAVAILABLE", f"The worker process {error}; ask again.")
        finally:
            del self._answers[question.request_id]

    async def stop(self) -> None:
        """Closes the pipe, which makes the process leave, and sees that it did."""
        self._stopping = True
        # A process that is just being started has to be known before it can be ended.
        async with self._starting:
            for task in self._tasks:
                task.cancel()
        process = self._process
        if process is None:
            return
        if self._connection is not None:
            with contextlib.suppress(OSError):
                # Closing alone would not wake our own reader; shutting down wakes both ends.
                socket.socket(fileno=os.dup(self._connection.fileno())).shutdown(socket.SHUT_RDWR)
        try:
            await asyncio.to_thread(process.wait, _LEAVING)
        except subprocess.TimeoutExpired:
            log.warning("worker %s does not leave and is killed", process.pid)
            process.kill()
            await asyncio.to_thread(process.wait)

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gramophone_server.worker", "--fd", str(fd)]
        # Its own group: Ctrl-C in a terminal reaches the front alone, which decides what becomes of the jobs.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[fd], process_group=0, env={**ENVIRONMENT, **os.environ}
        )

    async def _send(self, message: ToWorker) -> None:
        # Whoever is cancelled meanwhile must not leave half a message in the pipe, nor let another begin.
        await asyncio.shield(asyncio.create_task(self._send_whole(message)))

    async def _send_whole(self, message: ToWorker) -> None:
        async with self._sending:
            if self._connection is None:
                return
            # A broken pipe means that the process has just died; the reader reports it and fails what waits.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._connection.send, message)

    def _read(self, connection: Connection, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        # A thread of its own, because receiving a pickled message blocks until all of it has come.
        with connection, contextlib.suppress(RuntimeError):  # RuntimeError: the loop has closed, nobody is left to tell
            while True:
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    break
                loop.call_soon_threadsafe(self._take, message)
            loop.call_soon_threadsafe(self._died, process.wait())

    def _take(self, message: FromWorker) -> None:
        self._heard = max(self._heard, time.monotonic())
        match message:
            case Heartbeat(stuck, resident):
                self.resident = resident
                if stuck > _STUCK:
                    self._kill("its job has not moved", stuck)
            case Ready(device):
                self.device = device
                self._heard = time.monotonic()
                self.trouble = self.unopened = None
                self._opened = True
                self._up.set()
                self._settled.set()
                log.info("worker %s is ready on %s", self._process.pid if self._process else "?", device)
                self._changed()
            case DeviceFailed(device, reason):
                self._lost = f"{device} cannot be used: {reason}"
            case Progressed(job_id, progress) if job_id in self._on_progress:
                self._on_progress[job_id](progress)
            case Ended(job_id, outcome) if job_id in self._endings:
                self._endings[job_id].set_result(outcome)
            case FeaturesResponse(request_id, answer) | EstimateResponse(request_id, answer) if (
                request_id in self._answers
            ):
                self._answers[request_id].set_result(answer)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            silent, process = time.monotonic() - self._heard, self._process
            if silent > self._config.workers.hang_timeout and process is not None and process.poll() is None:
                self._kill("it has not been heard of", silent)

    def _kill(self, why: str, seconds: float) -> None:
        assert self._process is not None
        log.error("worker %s hangs and is killed: %s for %.0f s", self._process.pid, why, seconds)
        self._process.kill()

    def _died(self, code: int) -> None:
        reason = f"was killed by signal {-code}" if code < 0 else f"left with status {code}"
        if self._lost is not None:
            reason = f"has lost its device: {self._lost}"
        if self._up.is_set():
            self._up.clear()
            self._settled.clear()
            if not self._stopping:
                log.warning("a worker process %s", reason)
        elif not self._stopping:
            if not self._opened and self._lost is not None and self._config.device != "auto":
                self.unopened = self._lost
            self._say(self._lost or f"a worker process for {self._config.device} {reason} before it was ready")
        self._gone.set()
        waiting: list[asyncio.Future[Any]] = [*self._endings.values(), *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDiedError(reason))
        self._changed()

    def _say(self, trouble: str) -> None:
        """Has a trouble that lasts, and is said once."""
        if trouble != self.trouble and self.unopened is None:
            log.error("a worker cannot be used, and is tried again and again: %s", trouble)
        self.trouble = trouble
        self._settled.set()
        self._changed()
