"""What can be seen of a server from outside: its metrics, its traces and its logs, put together."""

import asyncio
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..scheduling.executor import ProcessExecutor
from ..scheduling.observer import Observer, Observers
from ..scheduling.scheduler import Scheduler
from ..settings import ObservabilitySettings
from ..storage.store import JobStore
from .calls import CallMeter, CallWatcher
from .heartbeat import Heartbeat
from .readiness import Readiness
from .tracing import Tracing, open_provider

if TYPE_CHECKING:
    from .metrics import WorkerState

log = logging.getLogger(__name__)

# Seconds that metrics wait for the database.
_LOOKING = 0.5


class ObservabilityError(RuntimeError):
    """The metrics or the event files that are asked for are not possible; the message says why and what to do."""


def check_observability(settings: ObservabilitySettings) -> None:
    """Checks that the packages are installed that the settings need.

    Raises:
        ObservabilityError: one is not.
    """
    for wanted, module, extra in (
        (settings.metrics_port is not None, "prometheus_client", "server"),
        (settings.tensorboard is not None, "tensorboard", "tensorboard"),
    ):
        if wanted and importlib.util.find_spec(module) is None:
            option = "--metrics-port" if extra == "server" else "--tensorboard"
            raise ObservabilityError(f"{option} needs {module}: pip install 'gramophone[{extra}]'")


class Instruments:
    """What observes a server's jobs and calls, set up as its settings say.

    Attributes:
        observer: of the jobs.
        interceptor: of the calls; the first there is.
    """

    def __init__(self, settings: ObservabilitySettings, executors: Sequence[ProcessExecutor], store: JobStore) -> None:
        check_observability(settings)
        self._settings = settings
        self._executors = executors
        self._store = store
        self._stop_serving: Callable[[], None] = lambda: None
        self._tracing = Tracing(open_provider())
        self._heartbeat = Heartbeat()
        self._stored = 0
        self._looking: asyncio.Task[None] | None = None
        self._scheduler: Scheduler | None = None
        self._open_streams: Callable[[], int] = lambda: 0
        self._readiness: Readiness | None = None
        observers: list[Observer] = [self._tracing]
        meter: CallMeter | None = None
        self._metrics = None
        if settings.metrics_port is not None:
            # Only whoever wants them pays for them.
            from .metrics import Metrics

            self._metrics = meter = Metrics(self, _methods())
            observers.append(self._metrics)
        self.observer = Observers(observers)
        self.interceptor = CallWatcher(self._tracing, meter)

    async def serve(self, scheduler: Scheduler, open_streams: Callable[[], int], readiness: Readiness) -> None:
        """Serves the metrics, if they are wanted, and begins to watch the event loop.

        Args:
            open_streams: says how many streams of events and results to clients are open.

        Raises:
            ObservabilityError: their port cannot be had.
        """
        self._scheduler, self._open_streams, self._readiness = scheduler, open_streams, readiness
        self._heartbeat.start()
        if self._metrics is None or self._settings.metrics_port is None:
            return
        host, port = self._settings.metrics_host, self._settings.metrics_port
        try:
            self._stop_serving = await self._metrics.serve(host, port)
        except OSError as error:
            raise ObservabilityError(
                f"there can be no metrics on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
            ) from error

    def stop_serving(self) -> None:
        """Serves no metrics any more."""
        self._stop_serving()

    def close(self) -> None:
        """Sends off the spans that wait, for some seconds at most. Blocks."""
        self._tracing.close()

    def jobs_waiting(self) -> int:
        """Jobs in the queue."""
        return self._scheduler.waiting if self._scheduler else 0

    def streams_open(self) -> int:
        """Streams of events and results to clients."""
        return self._open_streams()

    def stored_bytes(self) -> int:
        """Of all files of jobs and uploads, when that was last looked at."""
        return self._stored

    async def look(self) -> None:
        """Looks how much is stored, unless the database takes its time to say."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._measure())
        await asyncio.wait({self._looking}, timeout=_LOOKING)

    async def _measure(self) -> None:
        self._stored = await asyncio.to_thread(self._store.size)

    def ready(self) -> bool:
        """Whether health says SERVING."""
        return self._readiness is not None and self._readiness.serving

    def storage_up(self) -> float:
        """1 if the storage can be used, else 0."""
        return float(self._store.condition.trouble is None)

    def damaged_blobs(self) -> int:
        """Files found to be damaged or lost since the start."""
        return self._store.files.damaged

    def repaired_blobs(self) -> int:
        """Those of them that were sent again."""
        return self._store.files.repaired

    def longest_stall(self) -> float:
        """Of the event loop within the last minute; seconds."""
        return self._heartbeat.longest()

    def workers(self) -> "Sequence[WorkerState]":
        """The workers."""
        return self._executors


def _methods() -> set[str]:
    """The names of all calls of the contract, and of reflection."""
    from gramophone.v1 import job_service_pb2, model_service_pb2, style_transfer_service_pb2

    from ..rpc import reflection

    modules = (job_service_pb2, model_service_pb2, style_transfer_service_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return {
        f"{service.full_name}/{method.name}"
        for service in (*services, *reflection.services())
        for method in service.methods
    }
