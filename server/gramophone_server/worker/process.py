"""The worker process: takes jobs off the pipe, runs them one at a time, reports back."""

import os
import queue
import signal
import threading
from multiprocessing.connection import Connection

import torch

from ..engine.device import available_threads, open_device
from ..jobs.pipe import Cancel, Ended, Extract, Extracted, Ready, Run, Started, ToWorker, WorkerConfig
from ..models.store import ModelStore
from .failures import failure_of
from .outbox import Outbox
from .runner import JobRunner
from .targets import Targets


class WorkerProcess:
    """Owns one device until the pipe to the front closes.

    Three threads: this one optimises, one receives (so that a cancel is seen while a job runs), one sends. Features for
    ExtractFeatures are computed on a fourth, beside the job.
    """

    def __init__(self, connection: Connection, config: WorkerConfig) -> None:
        self._connection = connection
        self._config = config
        self._outbox = Outbox(connection)
        self._jobs: queue.Queue[Run] = queue.Queue()
        self._extractions: queue.Queue[Extract] = queue.Queue()
        self._cancelled: set[str] = set()

    def run(self) -> None:
        """Runs jobs for ever; the receiving thread ends the process when the front has gone."""
        # A Ctrl-C is meant for the front, which decides what becomes of the jobs.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        threads = self._config.threads or available_threads()
        torch.set_num_threads(threads)
        device = open_device(self._config.device)
        self._store = ModelStore(self._config.models)
        self._targets = Targets(str(device), threads)
        runner = JobRunner(self._store, self._targets, device, self._outbox, self._cancelled)
        threading.Thread(target=self._extract, name="extract", daemon=True).start()
        self._outbox.send(Ready(str(device)))
        while True:
            job = self._jobs.get()
            self._outbox.send(Started(job.job_id))
            self._outbox.send(Ended(job.job_id, runner.run(job)))
            self._cancelled.discard(job.job_id)

    def _receive(self) -> None:
        while True:
            try:
                message: ToWorker = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # Nobody is left to paint for.
            match message:
                case Run():
                    self._jobs.put(message)
                case Cancel(job_id):
                    self._cancelled.add(job_id)
                case Extract():
                    self._extractions.put(message)

    def _extract(self) -> None:
        while True:
            request = self._extractions.get()
            try:
                features = self._targets.features(
                    self._store.get(request.model), request.picture, request.layers, request.pooling, grams=request.gram
                )
                answer = tuple((name, f.shape, f.astype("<f4").tobytes()) for name, f in features.items())
                self._outbox.send(Extracted(request.request_id, answer))
            except Exception as error:
                self._outbox.send(Extracted(request.request_id, failure_of(error)))
