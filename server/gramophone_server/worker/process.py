"""The worker process: receives jobs over the pipe, runs them, and sends reports."""

import logging
import os
import queue
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import NoReturn

import torch

from ..engine.device import DeviceError, release_free_memory, set_up_cpu, set_up_cuda, share_heap
from ..engine.devices import Devices
from ..engine.losses import CONTENT, GRAM
from ..logs import marked
from ..messages.estimate import Estimate
from ..messages.events import Failure
from ..messages.pipe import (
    Cancel,
    DeviceFailed,
    Ended,
    EstimateRequest,
    EstimateResponse,
    FeaturesRequest,
    FeaturesResponse,
    Heartbeat,
    Pause,
    Ready,
    RoomGranted,
    Run,
    Share,
    ToWorker,
    WorkerConfig,
)
from ..messages.spec import JobSpec
from ..models.store import ModelStore
from .device import device_names, other_devices, select_devices
from .estimator import Estimator
from .failures import failure_of
from .guard import DeviceGuard
from .outbox import Outbox
from .room import Room
from .runner import JobRunner
from .targets import Targets
from .threads import Threads

log = logging.getLogger(__name__)

# Exit status of a worker whose device cannot be used.
_NO_DEVICE = 3
# Seconds between heartbeats.
_HEARTBEAT_EVERY = 2.0
# Seconds without a job after which freed memory is returned to the system.
_IDLE_TIMEOUT = 5.0


class WorkerProcess:
    """A worker: owns one device, or several, and executes jobs until the pipe to the front closes.

    The main thread runs the jobs; on a GPU, a pool of threads runs those that share the device. One thread
    receives messages, so that a cancellation arrives while a job runs; one thread sends messages; one answers requests
    for features and estimates while a job runs; one sends heartbeats.

    Args:
        connection: the pipe to the front.
        config: the configuration.
    """

    def __init__(self, connection: Connection, config: WorkerConfig) -> None:
        self._connection = connection
        self._config = config
        self._outbox = Outbox(connection)
        self._jobs: queue.Queue[Run] = queue.Queue()
        self._requests: queue.Queue[FeaturesRequest | EstimateRequest] = queue.Queue()
        self._room = Room(self._outbox)
        self._cancelled: set[str] = set()
        self._paused: set[str] = set()

    def run(self) -> None:
        """Executes jobs forever; the receiving thread ends the process when the pipe closes."""
        # The terminal sends Ctrl-C to all processes; only the front handles it and decides about the jobs.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if "cpu+" in self._config.device:
            share_heap()
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        settings = self._config.workers
        set_up_cpu(settings.threads)
        self._threads = Threads(torch.get_num_threads())
        opened = self._open_devices()
        device, self._name = opened[0], device_names(opened)
        self._devices = None
        if len(opened) > 1:
            # A CPU is divided among its parts; what is not in tiles still has all threads.
            self._devices = Devices(opened, max(1, self._threads.most // len(opened)))
        self._guard = DeviceGuard(opened, self._exit)
        self._guard.watch_terminate()
        threading.excepthook = self._check_thread
        for one in opened if device.type == "cuda" else ():
            set_up_cuda(one, settings.memory)
        self._store = ModelStore(self._config.models)
        self._targets = Targets(str(device), self._threads.most)
        self._estimator = Estimator(self._store, opened, settings.memory, graphs=not settings.no_cuda_graphs)
        self._runner = JobRunner(
            self._store, self._targets, self._estimator, device, self._threads, self._room, self._outbox, self._guard,
            self._cancelled, self._paused, settings.checkpoint_every, self._config.observability.tensorboard,
            self._devices,
        )  # fmt: skip
        self._check_limit()
        threading.Thread(target=self._answer_requests, name="answer", daemon=True).start()
        others, memory = other_devices(self._config.device, device), self._estimator.memory
        ready = Ready(self._name, others, self._threads.most, self._estimator.idle, memory.available())
        self._outbox.send(ready)
        threading.Thread(target=self._send_heartbeats, name="heartbeats", daemon=True).start()
        # Threads that are used again keep their OpenMP threads and their part of the heap.
        shared = ThreadPoolExecutor(settings.jobs_per_worker, "shared")
        with self._guard:
            while True:
                job = self._next_job()
                if job.shared and device.type == "cuda":
                    shared.submit(self._execute, job)
                else:
                    self._execute(job)

    def _execute(self, job: Run) -> None:
        """Runs a job and sends its outcome."""
        with marked(job.marks):
            outcome = self._runner.run(job)
        self._outbox.send(Ended(job.job_id, outcome))
        self._cancelled.discard(job.job_id)
        self._paused.discard(job.job_id)

    def _open_devices(self) -> tuple[torch.device, ...]:
        """Returns the devices; ends the process if one of them cannot be used."""
        try:
            return select_devices(self._config.device)
        except DeviceError as error:
            self._exit(self._config.device, str(error))

    def _exit(self, device: str, reason: str) -> NoReturn:
        try:
            self._outbox.send_last(DeviceFailed(device, reason), 5.0)
        finally:
            os._exit(_NO_DEVICE)

    def _check_thread(self, args: threading.ExceptHookArgs) -> None:
        """Ends the process if a thread was ended by an error of a lost device; logs the error otherwise."""
        if args.exc_value is not None:
            self._guard.check(args.exc_value)
        threading.__excepthook__(args)

    def _check_limit(self) -> None:
        limit, held = self._config.workers.memory, self._estimator.idle
        if limit is not None and limit <= held:
            log.warning(
                "no job fits into --memory %s, because the worker alone needs %s on %s; increase --memory",
                f"{limit:,}", f"{held:,}", self._name,
            )  # fmt: skip

    def _next_job(self) -> Run:
        """Waits for the next job. If none arrives soon, returns the freed memory of the previous job to the system."""
        try:
            return self._jobs.get(timeout=_IDLE_TIMEOUT)
        except queue.Empty:
            if not self._runner.last_progress:
                release_free_memory()
            return self._jobs.get()

    def _send_heartbeats(self) -> None:
        """Sends heartbeats: seconds since the last progress of each job, and the memory of the device."""
        memory = self._estimator.memory
        while True:
            now = time.monotonic()
            stuck = max((now - then for then in list(self._runner.last_progress.values())), default=0.0)
            self._outbox.send(Heartbeat(stuck, memory.resident(), memory.available()))
            time.sleep(_HEARTBEAT_EVERY)

    def _receive(self) -> None:
        while True:
            try:
                message: ToWorker = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # The front has closed the pipe: results have no receiver.
            match message:
                case Run():
                    # A worker of several devices runs one job at a time.
                    self._jobs.put(message if self._devices is None else replace(message, shared=False))
                case Cancel(job_id):
                    self._cancelled.add(job_id)
                case Pause(job_id):
                    self._paused.add(job_id)
                case Share(threads, beside):
                    # The front sends it only after this worker has told that it is ready.
                    self._threads.shared = threads or self._threads.most
                    self._estimator.memory.beside = beside
                case RoomGranted(job_id):
                    self._room.grant(job_id)
                case FeaturesRequest() | EstimateRequest():
                    self._requests.put(message)

    def _answer_requests(self) -> None:
        # The number of a new thread is the one that was set last, maybe by a job that shares the device.
        self._threads.use()
        while True:
            match self._requests.get():
                case FeaturesRequest() as request:
                    self._outbox.send(FeaturesResponse(request.request_id, self._features(request)))
                case EstimateRequest(request_id, spec, timed):
                    self._outbox.send(EstimateResponse(request_id, self._estimate(spec, timed=timed)))

    def _features(self, request: FeaturesRequest) -> tuple[tuple[str, tuple[int, ...], bytes], ...] | Failure:
        try:
            loss = GRAM if request.gram else CONTENT
            picture = request.picture.with_pixels(lambda name: (request.pixels / name).read_bytes())
            with self._store.opened(request.model, request.layers) as model:
                features = self._targets.of(loss, model, picture, request.layers, request.pooling, "zeros")
            return tuple((name, f.shape, f.astype("<f4").tobytes()) for name, f in features.items())
        except Exception as error:
            self._guard.check(error)
            return failure_of(error)

    def _estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        try:
            return self._estimator.estimate(spec, timed=timed)
        except Exception as error:
            self._guard.check(error)
            return failure_of(error)
