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

from ..models.layers import PoolingName
from .estimate import Estimate
from .events import Failure, Progress
from .pipe import (
    Alive,
    Answered,
    Ask,
    Cancel,
    Ended,
    Extract,
    Extracted,
    FromWorker,
    Outcome,
    Pause,
    Progressed,
    Ready,
    Run,
    ToWorker,
    WorkerConfig,
)
from .spec import JobSpec, Picture

log = logging.getLogger(__name__)

# Threads that wait by spinning for long make a step several times slower as soon as anything else wants a core; those
# that do not spin at all make it slower on an idle machine. This is some tens of microseconds.
ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}
"""What a worker's process has in its environment, for what is decided before it runs."""

Features = tuple[tuple[str, tuple[int, ...], bytes], ...]


# Seconds that a worker may take to open its device, and may need from one report to the next; after that it hangs.
_OPENING, _STUCK = 180.0, 1800.0


class WorkerDiedError(Exception):
    """The worker process died; the message says how, beginning with a verb."""


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

    async def stop(self) -> None:
        """Closes it and ends what runs."""
        ...


class ProcessExecutor:
    """A worker process that owns one device.

    It is started as a fresh interpreter, never forked (neither gRPC nor CUDA survives a fork), talks over a socket
    pair, and leaves by itself when its end closes. If it dies, or hangs and is killed for it, the job at hand can be
    run again, and the next use starts another.

    Attributes:
        device: what it runs on; empty until it has opened that.
        resident: bytes that it held there a moment ago.
        restarts: how often it was started anew.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._heard = 0.0
        self._watchdog: asyncio.Task[None] | None = None
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
        self._ready = False
        self.device = ""
        self.resident = 0
        self.restarts = 0

    async def start(self) -> None:
        """Starts the process unless one is alive; returns before it is ready."""
        async with self._starting:
            if self._process is not None and self._process.poll() is None:
                return
            if self._reader is not None:
                # Its last act is to fail what the dead process was doing: let it, before anything new is registered.
                await asyncio.to_thread(self._reader.join)
            ours, theirs = socket.socketpair()
            with theirs:
                self.restarts += self._process is not None
                self._process = await asyncio.to_thread(self._spawn, theirs.fileno())
            self._connection = Connection(ours.detach())
            self._heard = time.monotonic() + _OPENING
            self._watchdog = self._watchdog or asyncio.create_task(self._watch())
            self._reader = threading.Thread(
                target=self._read, args=(self._connection, self._process, asyncio.get_running_loop()), daemon=True
            )
            self._reader.start()

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        """Runs a job to its end.

        Raises:
            WorkerDiedError: the process died.
        """
        await self.start()
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
        await self.start()
        await self._send(Cancel(job_id))

    async def pause(self, job_id: str) -> None:
        """Asks the job to save a checkpoint at its next report and end there."""
        await self.start()
        await self._send(Pause(job_id))

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Features of a picture, beside whatever job is running."""
        question = Extract(next(self._request_ids), model, picture, pixels, layers, gram, pooling)
        features: Features | Failure = await self._ask(question)
        return features

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        """What the job would take, beside whatever job is running."""
        estimate: Estimate | Failure = await self._ask(Ask(next(self._request_ids), spec.without_pixels(), timed))
        return estimate

    @property
    def ready(self) -> bool:
        """Whether the process has opened its device."""
        return self._ready and self._process is not None and self._process.poll() is None

    async def _ask(self, question: Extract | Ask) -> Any:
        await self.start()
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
        if self._watchdog is not None:
            self._watchdog.cancel()
        process = self._process
        if process is None:
            return
        if self._connection is not None:
            with contextlib.suppress(OSError):
                # Closing alone would not wake our own reader; shutting down wakes both ends.
                socket.socket(fileno=os.dup(self._connection.fileno())).shutdown(socket.SHUT_RDWR)
        try:
            await asyncio.to_thread(process.wait, 5)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        config = self._config
        command = [sys.executable, "-m", "gramophone_server.worker", "--fd", str(fd)]
        command += ["--device", config.device, "--threads", str(config.threads)]
        command += ["--checkpoint-every", str(config.checkpoint_every)]
        command += ["--log-format", config.log_format, "--log-level", config.log_level]
        if config.memory is not None:
            command += ["--memory", str(config.memory)]
        if config.models is not None:
            command += ["--models", str(config.models)]
        if config.tensorboard is not None:
            command += ["--tensorboard", str(config.tensorboard)]
        # Its own group: Ctrl-C in a terminal reaches the front alone, which decides what becomes of the jobs.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[fd], process_group=0, env={**ENVIRONMENT, **os.environ}
        )

    async def _send(self, message: ToWorker) -> None:
        # Whoever is cancelled meanwhile must not leave half a message in the pipe, nor let another begin.
        await asyncio.shield(asyncio.create_task(self._send_whole(message)))

    async def _send_whole(self, message: ToWorker) -> None:
        async with self._sending:
            assert self._connection is not None
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
            case Alive(stuck, resident):
                self.resident = resident
                if stuck > _STUCK:
                    self._kill("its job has not moved", stuck)
            case Ready(device):
                self.device = device
                self._ready = True
                self._heard = time.monotonic()
                log.info("worker %s is ready on %s", self._process.pid if self._process else "?", device)
            case Progressed(job_id, progress) if job_id in self._on_progress:
                self._on_progress[job_id](progress)
            case Ended(job_id, outcome) if job_id in self._endings:
                self._endings[job_id].set_result(outcome)
            case Extracted(request_id, answer) | Answered(request_id, answer) if request_id in self._answers:
                self._answers[request_id].set_result(answer)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            silent = time.monotonic() - self._heard
            if silent > self._config.hang_timeout and self._process is not None and self._process.poll() is None:
                self._kill("it has not been heard of", silent)

    def _kill(self, why: str, seconds: float) -> None:
        assert self._process is not None
        log.error("worker %s hangs and is killed: %s for %.0f s", self._process.pid, why, seconds)
        self._process.kill()

    def _died(self, code: int) -> None:
        self._ready = False
        reason = f"was killed by signal {-code}" if code < 0 else f"left with status {code}"
        if not self._stopping:
            log.warning("a worker process %s", reason)
        waiting: list[asyncio.Future[Any]] = [*self._endings.values(), *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDiedError(reason))
