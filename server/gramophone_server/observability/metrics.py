"""Metrics for Prometheus: what happens to jobs, calls and workers, counted and served over HTTP."""

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

# Seconds: a texture on a GPU takes one, a poster on a laptop hours.
_JOB_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_KINDS = ("style", "content", "transfer")


class Watched(Protocol):
    """What is looked at when the metrics are asked for; on the event loop, so it must be quick."""

    async def look(self) -> None:
        """Looks at what takes a while, before anything is asked."""
        ...

    def jobs_waiting(self) -> int:
        """Jobs in the queue."""
        ...

    def streams_open(self) -> int:
        """Streams of events and results to clients."""
        ...

    def stored_bytes(self) -> int:
        """Of all files of jobs and uploads."""
        ...

    def longest_stall(self) -> float:
        """Of the event loop within the last minute; seconds."""
        ...

    def ready(self) -> bool:
        """Whether health says SERVING."""
        ...

    def storage_up(self) -> float:
        """1 if the storage can be used, else 0."""
        ...

    def damaged_blobs(self) -> int:
        """Files found to be damaged or lost since the start."""
        ...

    def repaired_blobs(self) -> int:
        """Those of them that were sent again."""
        ...

    def workers(self) -> "Sequence[WorkerState]":
        """The workers, always in the same order."""
        ...


class WorkerState(Protocol):
    """How a worker stands."""

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""
        ...

    @property
    def device(self) -> str:
        """What it runs on; empty until it has opened that."""
        ...

    @property
    def resident(self) -> int:
        """Bytes that it holds there."""
        ...

    @property
    def restarts(self) -> int:
        """How often it was started anew."""
        ...


@dataclass
class _Clock:
    """A job's times by the monotonic clock: since when it waits or runs, how long it has run, and how fast it is."""

    queued: float | None = None
    started: float | None = None
    ran: float = 0.0
    iteration: int | None = None
    speed: float = 0.0


class Metrics(Observer):
    """Counts, as an observer of jobs and of calls; in a registry of its own.

    Args:
        watched: what is not counted but looked at.
        methods: names `service/method` of all calls; others are counted as "other", so that a caller who makes names up
            makes no series.
    """

    def __init__(self, watched: Watched, methods: Collection[str]) -> None:
        self.registry = CollectorRegistry()
        self._watched = watched
        self._methods = frozenset(methods)
        self._clocks: dict[str, tuple[str, _Clock]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gramophone_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"gramophone_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"gramophone_{name}", text, labels, registry=self.registry, buckets=buckets)

        _look(gauge("jobs_waiting", "Jobs in the queue."), watched.jobs_waiting)
        self._running = gauge("jobs_running", "Jobs that a worker is on.", "kind")
        self._speed = gauge("iterations_per_second", "Speed of the running jobs, added up.", "kind")
        self._wait = histogram("job_wait_seconds", "From the queue to a worker, each time.", _JOB_BUCKETS, "kind")
        self._seconds = histogram(
            "job_seconds", "Running time of ended jobs, all attempts on this server.", _JOB_BUCKETS, "kind", "outcome"
        )
        self._iterations = counter("iterations_total", "Iterations reported.", "kind")
        self._resumes = counter(
            "job_resumes_total", "Jobs taken up again, after a worker or a server was lost.", "kind"
        )
        self._refusals = counter("refusals_total", "Calls that the server did not want.", "reason")
        _look(gauge("streams_open", "Streams of events and results to clients."), watched.streams_open)
        _look(gauge("stored_bytes", "Files of jobs and uploads on the disk."), watched.stored_bytes)
        _look(gauge("ready", "1 if health says SERVING, else 0."), watched.ready)
        _look(gauge("storage_up", "1 if jobs can be stored and read, else 0."), watched.storage_up)
        _look(gauge("loop_stall_seconds", "Longest stall of the event loop in a minute."), watched.longest_stall)
        self._calls = counter("rpcs_total", "Calls that have ended.", "method", "code")
        self._open = gauge("rpcs_open", "Calls under way.", "method")
        self._latency = histogram("rpc_seconds", "Time of calls that stream no responses.", _CALL_BUCKETS, "method")
        self.registry.register(_Workers(watched))
        self.registry.register(_Blobs(watched))
        for kind in _KINDS:
            # There from the start, so that a rate over the first job is one.
            for family in (self._running, self._speed, self._iterations, self._resumes):
                family.labels(kind)

    async def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serves them over HTTP; returns what ends that.

        Raises:
            OSError: the port cannot be had.
        """
        exposition = Exposition(self.registry, self._watched.look)
        port = await exposition.start(host, port)
        log.info("metrics on http://%s:%d/metrics", f"[{host}]" if ":" in host else host, port)
        return exposition.stop

    def queued(self, job: Job) -> None:
        """Its waiting begins."""
        clock = self._clock(job)
        self._pause(clock)
        clock.queued = time.monotonic()
        self._show_running()

    def started(self, job: Job) -> None:
        """Its waiting ends, and its running begins."""
        clock, kind, now = self._clock(job), job.spec.kind, time.monotonic()
        if clock.queued is not None:
            self._wait.labels(kind).observe(now - clock.queued)
        if job.attempts > 1:
            self._resumes.labels(kind).inc()
        # Where it goes on from is not known before its first report.
        clock.queued, clock.started, clock.iteration = None, now, 0 if job.attempts == 1 else None
        self._show_running()

    def progressed(self, job: Job, progress: Progress) -> None:
        """It has made iterations."""
        clock = self._clock(job)
        if clock.iteration is not None:
            self._iterations.labels(job.spec.kind).inc(max(0, progress.iteration - clock.iteration))
        clock.iteration, clock.speed = progress.iteration, progress.iterations_per_second
        self._show_running()

    def ended(self, job: Job) -> None:
        """It has ended: its seconds count."""
        clock = self._clock(job)
        self._pause(clock)
        self._seconds.labels(job.spec.kind, job.state.value).observe(clock.ran)
        self._clocks.pop(job.id, None)
        self._show_running()

    def call_begun(self, method: str, *, streaming: bool) -> None:
        """A call has come."""
        self._open.labels(self._name(method)).inc()

    def call_ended(self, method: str, code: str, seconds: float, refusal: str | None, *, streaming: bool) -> None:
        """A call has ended."""
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
    """How the workers stand, looked up when asked."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterable[Metric]:
        """The families of the workers."""
        up = GaugeMetricFamily("gramophone_worker_up", "1 if the worker takes jobs, else 0.", labels=["worker"])
        restarts = CounterMetricFamily(
            "gramophone_worker_restarts_total", "Times that the worker was started anew.", labels=["worker"]
        )
        resident = GaugeMetricFamily(
            "gramophone_device_resident_bytes", "What the worker holds on its device.", labels=["worker", "device"]
        )
        for number, worker in enumerate(self._watched.workers()):
            name = str(number)
            up.add_metric([name], float(worker.ready))
            restarts.add_metric([name], worker.restarts)
            if worker.device and worker.ready:
                resident.add_metric([name, worker.device], worker.resident)
        return up, restarts, resident


class _Blobs(Collector):
    """How many files were damaged, looked up when asked."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterable[Metric]:
        """The families of the files."""
        watched = self._watched
        damaged, repaired = "Files found to be damaged or lost.", "Damaged files that were sent again."
        return (
            CounterMetricFamily("gramophone_blobs_damaged_total", damaged, value=watched.damaged_blobs()),
            CounterMetricFamily("gramophone_blobs_repaired_total", repaired, value=watched.repaired_blobs()),
        )


def _look(gauge: Gauge, value: Callable[[], Any]) -> None:
    gauge.set_function(lambda: float(value()))
