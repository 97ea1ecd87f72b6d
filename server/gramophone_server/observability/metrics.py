"""Prometheus metrics of jobs, calls, workers and storage."""

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..messages.events import Progress
from ..scheduling.observer import Observer
from ..storage.job import Job
from .exposition import Exposition

log = logging.getLogger(__name__)

# Seconds: a texture takes a second on a GPU, a poster takes hours on a laptop.
_JOB_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_KINDS = ("style", "content", "transfer")


class GaugeSource(Protocol):
    """Values that are read when metrics are requested; on the event loop, so all but `refresh` must be quick."""

    async def refresh(self) -> None:
        """Updates the values that take time to compute; is awaited before the others are read."""
        ...

    def jobs_waiting(self) -> int:
        """Returns the number of jobs in the queue."""
        ...

    def streams_open(self) -> int:
        """Returns the number of open streams of events and results."""
        ...

    def stored_bytes(self) -> int:
        """Returns the bytes of all files of jobs and uploads."""
        ...

    def longest_stall(self) -> float:
        """Returns the longest stall of the event loop within the last minute, in seconds."""
        ...

    def ready(self) -> bool:
        """Whether the health status is SERVING."""
        ...

    def storage_up(self) -> float:
        """Returns 1 if the storage can be used, else 0."""
        ...

    def damaged_blobs(self) -> int:
        """Returns the number of files found damaged or lost since the start."""
        ...

    def repaired_blobs(self) -> int:
        """Returns the number of damaged or lost files that were replaced by a new upload or request."""
        ...

    def workers(self) -> "Sequence[WorkerState]":
        """Returns the workers, always in the same order."""
        ...


class WorkerState(Protocol):
    """The state of a worker."""

    @property
    def ready(self) -> bool:
        """Whether the worker can run jobs."""
        ...

    @property
    def device(self) -> str:
        """The worker's device; empty until the worker has opened it."""
        ...

    @property
    def resident(self) -> int:
        """Bytes of memory that the worker holds on its device."""
        ...

    @property
    def restarts(self) -> int:
        """Number of times that the worker process was restarted."""
        ...


@dataclass
class _Clock:
    """Times and speed of a job.

    Attributes:
        queued: start of its waiting by the monotonic clock; None while it does not wait.
        started: start of its running by the monotonic clock; None while it does not run.
        ran: seconds that its earlier attempts ran.
        iteration: the last reported iteration; None if not known.
        speed: iterations per second.
    """

    queued: float | None = None
    started: float | None = None
    ran: float = 0.0
    iteration: int | None = None
    speed: float = 0.0


class Metrics(Observer):
    """Observes jobs and calls, and counts them in a registry of its own.

    Args:
        source: the values of the gauges.
        methods: the known methods as `service/method`; calls of other names are counted as "other", so that callers
            cannot create time series.
    """

    def __init__(self, source: GaugeSource, methods: Collection[str]) -> None:
        self.registry = CollectorRegistry()
        self._source = source
        self._methods = frozenset(methods)
        self._clocks: dict[str, tuple[str, _Clock]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gramophone_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"gramophone_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"gramophone_{name}", text, labels, registry=self.registry, buckets=buckets)

        _bind(gauge("jobs_waiting", "Jobs in the queue."), source.jobs_waiting)
        self._running = gauge("jobs_running", "Jobs that run on a worker.", "kind")
        self._speed = gauge("iterations_per_second", "Sum of the speeds of the running jobs.", "kind")
        self._wait = histogram("job_wait_seconds", "Time in the queue, for each attempt.", _JOB_BUCKETS, "kind")
        self._seconds = histogram(
            "job_seconds", "Running time of ended jobs, all attempts on this server.", _JOB_BUCKETS, "kind", "outcome"
        )
        self._iterations = counter("iterations_total", "Reported iterations.", "kind")
        self._resumes = counter("job_resumes_total", "Jobs started again after a worker or a server was lost.", "kind")
        self._refusals = counter("refusals_total", "Calls that the server refused.", "reason")
        _bind(gauge("streams_open", "Open streams of events and results to clients."), source.streams_open)
        _bind(gauge("stored_bytes", "Bytes of the files of jobs and uploads."), source.stored_bytes)
        _bind(gauge("ready", "1 if the health status is SERVING, else 0."), source.ready)
        _bind(gauge("storage_up", "1 if jobs can be stored and read, else 0."), source.storage_up)
        _bind(gauge("loop_stall_seconds", "Longest stall of the event loop in the last minute."), source.longest_stall)
        self._calls = counter("rpcs_total", "Ended calls.", "method", "code")
        self._open = gauge("rpcs_open", "Calls in progress.", "method")
        self._latency = histogram("rpc_seconds", "Duration of calls with a single response.", _CALL_BUCKETS, "method")
        self.registry.register(_Workers(source))
        self.registry.register(_Blobs(source))
        for kind in _KINDS:
            # Create the series at the start, so that a rate includes the first job.
            for family in (self._running, self._speed, self._iterations, self._resumes):
                family.labels(kind)

    async def serve(self, host: str, port: int) -> Callable[[], None]:
        """Starts serving the metrics over HTTP; returns a function that stops it.

        Raises:
            OSError: the port cannot be bound.
        """
        exposition = Exposition(self.registry, self._source.refresh)
        port = await exposition.start(host, port)
        log.info("metrics on http://%s:%d/metrics", f"[{host}]" if ":" in host else host, port)
        return exposition.stop

    async def encoded(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics in a format that an Accept header allows, and its content type."""
        return await Exposition(self.registry, self._source.refresh).encoded(accept)

    def queued(self, job: Job) -> None:
        """Starts the job's waiting time."""
        clock = self._clock(job)
        self._pause(clock)
        # In a cluster, the job may have waited before this front took it.
        clock.queued = time.monotonic() - max(0.0, time.time() - job.queue_time)
        self._show_running()

    def started(self, job: Job) -> None:
        """Ends the job's waiting time and starts its running time."""
        clock, kind, now = self._clock(job), job.spec.kind, time.monotonic()
        if clock.queued is not None:
            self._wait.labels(kind).observe(now - clock.queued)
        if job.attempts > 1:
            self._resumes.labels(kind).inc()
        # The iteration that a resumed job starts from is not known before its first report.
        clock.queued, clock.started, clock.iteration = None, now, 0 if job.attempts == 1 else None
        self._show_running()

    def progressed(self, job: Job, progress: Progress) -> None:
        """Counts the job's new iterations."""
        clock = self._clock(job)
        if clock.iteration is not None:
            self._iterations.labels(job.spec.kind).inc(max(0, progress.iteration - clock.iteration))
        clock.iteration, clock.speed = progress.iteration, progress.iterations_per_second
        self._show_running()

    def ended(self, job: Job) -> None:
        """Counts the ended job and its running time."""
        clock = self._clock(job)
        self._pause(clock)
        self._seconds.labels(job.spec.kind, job.state.value).observe(clock.ran)
        self._clocks.pop(job.id, None)
        self._show_running()

    def left(self, job: Job) -> None:
        """Forgets the job."""
        self._clocks.pop(job.id, None)
        self._show_running()

    def call_begun(self, method: str, *, streaming: bool) -> None:
        """Counts the start of a call."""
        self._open.labels(self._name(method)).inc()

    def call_ended(self, method: str, code: str, seconds: float, refusal: str | None, *, streaming: bool) -> None:
        """Counts the end of a call."""
        name = self._name(method)
        self._open.labels(name).dec()
        self._calls.labels(name, code).inc()
        if not streaming:
            self._latency.labels(name).observe(seconds)
        if refusal is not None:
            self._refusals.labels(refusal).inc()

    def _name(self, method: str) -> str:
        return method if method in self._methods else "other"

    def _clock(self, job: Job) -> _Clock:
        return self._clocks.setdefault(job.id, (job.spec.kind, _Clock()))[1]

    def _pause(self, clock: _Clock) -> None:
        if clock.started is not None:
            clock.ran += time.monotonic() - clock.started
        clock.started, clock.speed = None, 0.0

    def _show_running(self) -> None:
        running: Tally[str] = Tally()
        speed: dict[str, float] = dict.fromkeys(_KINDS, 0.0)
        for kind, clock in self._clocks.values():
            running[kind] += clock.started is not None
            speed[kind] += clock.speed
        for kind in _KINDS:
            self._running.labels(kind).set(running[kind])
            self._speed.labels(kind).set(speed[kind])


class _Workers(Collector):
    """Collects the metrics of the workers."""

    def __init__(self, source: GaugeSource) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Returns the metric families of the workers."""
        up = GaugeMetricFamily("gramophone_worker_up", "1 if the worker can run jobs, else 0.", labels=["worker"])
        restarts = CounterMetricFamily(
            "gramophone_worker_restarts_total", "Restarts of the worker process.", labels=["worker"]
        )
        resident = GaugeMetricFamily(
            "gramophone_device_resident_bytes", "Memory held by the worker on its device.", labels=["worker", "device"]
        )
        for number, worker in enumerate(self._source.workers()):
            name = str(number)
            up.add_metric([name], float(worker.ready))
            restarts.add_metric([name], worker.restarts)
            if worker.device and worker.ready:
                resident.add_metric([name, worker.device], worker.resident)
        return up, restarts, resident


class _Blobs(Collector):
    """Collects the number of damaged files."""

    def __init__(self, source: GaugeSource) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Returns the metric families of the files."""
        source = self._source
        damaged, repaired = "Files found damaged or lost.", "Damaged or lost files that were replaced."
        return (
            CounterMetricFamily("gramophone_blobs_damaged_total", damaged, value=source.damaged_blobs()),
            CounterMetricFamily("gramophone_blobs_repaired_total", repaired, value=source.repaired_blobs()),
        )


def _bind(gauge: Gauge, value: Callable[[], Any]) -> None:
    gauge.set_function(lambda: float(value()))
