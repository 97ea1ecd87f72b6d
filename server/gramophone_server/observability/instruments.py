"""Sets up the metrics, traces and event-loop measurement of a server."""

import asyncio
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..scheduling.device import DeviceExecutor
from ..scheduling.observer import Observer, Observers
from ..scheduling.scheduler import Scheduler
from ..settings import ObservabilitySettings
from ..storage.store import JobStore
from .calls import CallMeter, CallWatcher
from .readiness import Readiness
from .stalls import StallMonitor
from .tracing import Tracing, open_provider

if TYPE_CHECKING:
    from .metrics import WorkerState

log = logging.getLogger(__name__)

# Seconds that a request for metrics waits for the database.
_REFRESH_TIMEOUT = 0.5


class ObservabilityError(RuntimeError):
    """The requested metrics or event files are not possible; the message says why and what to do."""


def check_observability(settings: ObservabilitySettings, *, http: bool) -> None:
    """Checks that the packages that the settings need are installed.

    Args:
        http: whether the server serves HTTP, and with it the metrics.

    Raises:
        ObservabilityError: a package is missing.
    """
    for wanted, module, extra in (
        (settings.metrics_port is not None or http, "prometheus_client", "server"),
        (settings.tensorboard is not None, "tensorboard", "tensorboard"),
    ):
        if wanted and importlib.util.find_spec(module) is None:
            metrics = "--http" if settings.metrics_port is None else "--metrics-port"
            option = metrics if extra == "server" else "--tensorboard"
            raise ObservabilityError(f"{option} needs {module}: pip install 'gramophone[{extra}]'")


class Instruments:
    """The observers of a server's jobs and calls, set up from its settings; also the values of the gauges.

    Args:
        http: whether the server serves HTTP, and with it the metrics.

    Attributes:
        observer: is told what happens to jobs.
        interceptor: measures calls; must be the server's first interceptor.
    """

    def __init__(
        self, settings: ObservabilitySettings, executors: Sequence[DeviceExecutor], store: JobStore, *, http: bool
    ) -> None:
        check_observability(settings, http=http)
        self._settings = settings
        self._executors = executors
        self._store = store
        self._stop_serving: Callable[[], None] = lambda: None
        self._tracing = Tracing(open_provider())
        self._stalls = StallMonitor()
        self._stored = 0
        self._measuring: asyncio.Task[None] | None = None
        self._scheduler: Scheduler | None = None
        self._open_streams: Callable[[], int] = lambda: 0
        self._readiness: Readiness | None = None
        observers: list[Observer] = [self._tracing]
        meter: CallMeter | None = None
        self._metrics = None
        if settings.metrics_port is not None or http:
            # Import prometheus_client only if metrics are enabled: it costs time and memory.
            from .metrics import Metrics

            self._metrics = meter = Metrics(self, _methods())
            observers.append(self._metrics)
        self.observer = Observers(observers)
        self.interceptor = CallWatcher(self._tracing, meter)

    async def serve(self, scheduler: Scheduler, open_streams: Callable[[], int], readiness: Readiness) -> None:
        """Starts measuring the event loop and, if metrics are enabled, serving them.

        Args:
            open_streams: returns the number of open streams of events and results.

        Raises:
            ObservabilityError: the port of the metrics cannot be bound.
        """
        self._scheduler, self._open_streams, self._readiness = scheduler, open_streams, readiness
        self._stalls.start()
        if self._metrics is None or self._settings.metrics_port is None:
            return
        host, port = self._settings.metrics_host, self._settings.metrics_port
        try:
            self._stop_serving = await self._metrics.serve(host, port)
        except OSError as error:
            raise ObservabilityError(
                f"metrics cannot be served on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
            ) from error

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics in a format that an Accept header allows, and its content type; only with `http`."""
        assert self._metrics is not None
        return await self._metrics.encoded(accept)

    def stop_serving(self) -> None:
        """Stops serving the metrics."""
        self._stop_serving()

    def close(self) -> None:
        """Exports the remaining spans. Blocks for a few seconds at most."""
        self._tracing.close()

    def jobs_waiting(self) -> int:
        """Returns the number of jobs in the queue."""
        return self._scheduler.waiting if self._scheduler else 0

    def streams_open(self) -> int:
        """Returns the number of open streams of events and results."""
        return self._open_streams()

    def stored_bytes(self) -> int:
        """Returns the bytes of all files of jobs and uploads at the last refresh."""
        return self._stored

    async def refresh(self) -> None:
        """Updates `stored_bytes` from the database; returns before that if the database is slow."""
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.create_task(self._measure())
        await asyncio.wait({self._measuring}, timeout=_REFRESH_TIMEOUT)

    async def _measure(self) -> None:
        self._stored = await asyncio.to_thread(self._store.size)

    def ready(self) -> bool:
        """Whether the health status is SERVING."""
        return self._readiness is not None and self._readiness.serving

    def storage_up(self) -> float:
        """Returns 1 if the storage can be used, else 0."""
        return float(self._store.condition.trouble is None)

    def damaged_blobs(self) -> int:
        """Returns the number of files found damaged or lost since the start."""
        return self._store.files.damaged

    def repaired_blobs(self) -> int:
        """Returns the number of damaged or lost files that were replaced by a new upload or request."""
        return self._store.files.repaired

    def longest_stall(self) -> float:
        """Returns the longest stall of the event loop within the last minute, in seconds."""
        return self._stalls.longest()

    def workers(self) -> "Sequence[WorkerState]":
        """Returns the workers, always in the same order."""
        return self._executors


def _methods() -> set[str]:
    """Returns the names `service/method` of all methods of the contract and of reflection."""
    from gramophone.v1 import job_service_pb2, model_service_pb2, style_transfer_service_pb2

    from ..rpc import reflection

    modules = (job_service_pb2, model_service_pb2, style_transfer_service_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return {
        f"{service.full_name}/{method.name}"
        for service in (*services, *reflection.services())
        for method in service.methods
    }
