"""The worker process: takes jobs off the pipe, runs them one at a time, reports back."""

import logging
import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import NoReturn

import torch

from ..engine.device import DeviceError, Memory, release_free_memory, set_up_cpu
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
    Run,
    ToWorker,
    WorkerConfig,
)
from ..messages.spec import JobSpec
from ..models.store import ModelStore
from .device import open_named, trouble_of
from .estimator import Estimator
from .failures import failure_of
from .outbox import Outbox
from .runner import JobRunner
from .targets import Targets

log = logging.getLogger(__name__)

# The status of a process that has no device to work on.
_NO_DEVICE = 3
# Seconds between signs of life.
_BEAT = 2.0
# Seconds without a job until the memory of the last one is given back.
_IDLE = 5.0


class WorkerProcess:
    """Owns one device until the pipe to the front closes.

    Three threads: this one optimizes, one receives (so that a cancel is seen while a job runs), one sends. Questions
    about features and costs are answered on a fourth, beside the job.
    """

    def __init__(self, connection: Connection, config: WorkerConfig) -> None:
        self._busy = False
        self._connection = connection
        self._config = config
        self._outbox = Outbox(connection)
        self._jobs: queue.Queue[Run] = queue.Queue()
        self._questions: queue.Queue[FeaturesRequest | EstimateRequest] = queue.Queue()
        self._cancelled: set[str] = set()
        self._paused: set[str] = set()

    def run(self) -> None:
        """Runs jobs for ever; the receiving thread ends the process when the front has gone."""
        # A Ctrl-C is meant for the front, which decides what becomes of the jobs.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        settings = self._config.workers
        set_up_cpu(settings.threads)
        self._device = device = self._open()
        self._store = ModelStore(self._config.models)
        self._targets = Targets(str(device), torch.get_num_threads())
        self._estimator = Estimator(self._store, device, settings.memory)
        self._runner = JobRunner(
            self._store, self._targets, self._estimator, device, self._outbox,
            self._cancelled, self._paused, settings.checkpoint_every, self._config.observability.tensorboard,
        )  # fmt: skip
        self._memory = Memory(device)
        self._check_limit()
        threading.Thread(target=self._answer, name="answer", daemon=True).start()
        self._outbox.send(Ready(str(device)))
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        while True:
            job = self._next()
            self._busy = True
            with marked(job.marks):
                outcome = self._runner.run(job)
            self._busy = False
            self._check_device(outcome)
            self._outbox.send(Ended(job.job_id, outcome))
            self._cancelled.discard(job.job_id)
            self._paused.discard(job.job_id)

    def _open(self) -> torch.device:
        """The device; the process ends if it cannot be used."""
        try:
            return open_named(self._config.device)
        except DeviceError as error:
            self._leave(self._config.device, str(error))

    def _check_device(self, outcome: object) -> None:
        """Ends the process if what went wrong is the device's fault: all that came later would go wrong, too."""
        failed = isinstance(outcome, Failure) and outcome.code == "INTERNAL"
        if failed and (reason := trouble_of(self._device)) is not None:
            self._leave(str(self._device), reason)

    def _leave(self, device: str, reason: str) -> NoReturn:
        self._outbox.send(DeviceFailed(device, reason))
        self._outbox.flush(5.0)
        os._exit(_NO_DEVICE)

    def _check_limit(self) -> None:
        limit, held = self._config.workers.memory, self._memory.resident()
        if limit is not None and limit <= held:
            log.warning(
                "no job will fit into --memory %s, as the worker alone takes %s on %s; give it more",
                f"{limit:,}", f"{held:,}", self._device,
            )  # fmt: skip

    def _next(self) -> Run:
        """The next job. What the last one has freed is kept for one that comes soon, and then given back."""
        try:
            return self._jobs.get(timeout=_IDLE)
        except queue.Empty:
            release_free_memory()
            return self._jobs.get()

    def _beat(self) -> None:
        """Tells the front that this process lives, for how long its job has stood still, and what it holds."""
        while True:
            stuck = time.monotonic() - self._runner.moved if self._busy else 0.0
            self._outbox.send(Heartbeat(stuck, self._memory.resident()))
            time.sleep(_BEAT)

    def _receive(self) -> None:
        while True:
            try:
                message: ToWorker = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # The front is gone, so the results have no reader.
            match message:
                case Run():
                    self._jobs.put(message)
                case Cancel(job_id):
                    self._cancelled.add(job_id)
                case Pause(job_id):
                    self._paused.add(job_id)
                case FeaturesRequest() | EstimateRequest():
                    self._questions.put(message)

    def _answer(self) -> None:
        while True:
            match self._questions.get():
                case FeaturesRequest() as question:
                    features = self._features(question)
                    self._check_device(features)
                    self._outbox.send(FeaturesResponse(question.request_id, features))
                case EstimateRequest(request_id, spec, timed):
                    estimate = self._estimate(spec, timed=timed)
                    self._check_device(estimate)
                    self._outbox.send(EstimateResponse(request_id, estimate))

    def _features(self, question: FeaturesRequest) -> tuple[tuple[str, tuple[int, ...], bytes], ...] | Failure:
        try:
            extract = self._targets.grams if question.gram else self._targets.maps
            picture = question.picture.with_pixels(lambda name: (question.pixels / name).read_bytes())
            with self._store.opened(question.model, question.layers) as model:
                features = extract(model, picture, question.layers, question.pooling, "zeros")
            return tuple((name, f.shape, f.astype("<f4").tobytes()) for name, f in features.items())
        except Exception as error:
            return failure_of(error)

    def _estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        try:
            return self._estimator.estimate(spec, timed=timed)
        except Exception as error:
            return failure_of(error)
