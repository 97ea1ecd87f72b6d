"""Tracing: the caller's trace (W3C Trace Context), and OpenTelemetry spans of calls and jobs.

Log lines always have the trace of their call. Spans are exported only if OpenTelemetry is installed and its environment
variables name an endpoint; otherwise it is not imported.
"""

import importlib.util
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..logs import mark
from ..messages.events import Failure, Result
from ..scheduling.observer import Observer
from ..storage.job import Job

log = logging.getLogger(__name__)

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class Trace:
    """A span of a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: whether the caller records the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool = True


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def read_traceparent(metadata: Any) -> Trace | None:
    """Returns the caller's span from the metadata of a call; None if there is no valid `traceparent`.

    https://www.w3.org/TR/trace-context/#traceparent-header
    """
    values = [value for key, value in metadata or () if key == "traceparent"]
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    match = _TRACEPARENT.fullmatch(values[0])
    # Later versions may append fields after the flags; version 00 may not.
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    if match[2] == "0" * 32 or match[3] == "0" * 16:
        return None
    return Trace(match[2], match[3], bool(int(match[4], 16) & 1))


def open_provider(environment: Mapping[str, str] = os.environ) -> Any:
    """Returns a tracer provider that exports spans by OTLP; None if tracing is off or OpenTelemetry is not installed.

    OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) turns tracing on; OTEL_SDK_DISABLED=true or
    OTEL_TRACES_EXPORTER=none turns it off.
    """
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    wanted = any(environment.get(name) for name in endpoints)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not wanted or disabled or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        log.warning("no spans are sent: OpenTelemetry is not installed; pip install 'gramophone[tracing]'")
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("no spans are sent: %s is not installed; pip install 'gramophone[tracing]'", error.name)
        return None
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override this name.
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "gramophone"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing(Observer):
    """Makes a span of each call, and of each job from submission to end, with a child span of each phase.

    Args:
        provider: OpenTelemetry's tracer provider; None to make no spans and only add the callers' traces to the logs.
    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("gramophone") if provider is not None else None
        self._jobs: dict[str, Any] = {}
        self._phases: dict[str, Any] = {}
        self._starts: dict[str, int] = {}

    @contextmanager
    def call(self, method: str, metadata: Any) -> Iterator[dict[str, str]]:
        """Makes a span of a call of `/service/method`; the block sets `code` of the yielded dict to the gRPC status."""
        outcome: dict[str, str] = {}
        trace = read_traceparent(metadata)
        if self._tracer is None:
            self._set_current(trace)
            yield outcome
            return
        from opentelemetry.trace import SpanKind

        service, _, name = method.removeprefix("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        span = self._tracer.start_span(
            f"{service}/{name}", _context_of(trace), kind=SpanKind.SERVER, attributes=attributes
        )
        self._set_current(_trace_of(span))
        try:
            yield outcome
        finally:
            code = outcome.get("code", "UNKNOWN")
            span.set_attribute("rpc.grpc.status", code)
            if code in ("UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE"):
                _set_error(span, code)
            span.end()

    def queued(self, job: Job) -> None:
        """Starts the job's span, if it has none yet, and its phase "queued"."""
        if self._tracer is None:
            if (trace := _current.get()) is not None and "trace_id" not in job.marks:
                job.marks.update(trace_id=trace.trace_id, span_id=trace.span_id)
            return
        if job.id not in self._jobs:
            spec = job.spec
            attributes = {
                "gramophone.job.id": job.id,
                "gramophone.job.kind": spec.kind,
                "gramophone.job.model": spec.model,
                "gramophone.job.width": spec.width,
                "gramophone.job.height": spec.height,
                "gramophone.job.iterations": spec.options.iterations,
            }
            span = self._tracer.start_span(f"job {spec.kind}", _context_of(_current.get()), attributes=attributes)
            self._jobs[job.id] = span
            trace = _trace_of(span)
            job.marks.update(trace_id=trace.trace_id, span_id=trace.span_id)
        self._start_phase(job, "queued")

    def started(self, job: Job) -> None:
        """Starts the job's phase "running"."""
        if self._tracer is not None:
            self._starts[job.id] = time.time_ns()
            self._start_phase(job, "running")

    def ended(self, job: Job) -> None:
        """Ends all spans of the job."""
        span = self._jobs.pop(job.id, None)
        if self._tracer is None or span is None:
            return
        phase, outcome, start = self._phases.pop(job.id, None), job.outcome, self._starts.pop(job.id, None)
        if isinstance(outcome, Result):
            span.set_attribute("gramophone.job.iterations_done", outcome.iterations)
            # After an interruption, the worker's times are sums over several attempts and make no contiguous spans.
            if start is not None and job.attempts == 1:
                middle = start + round(outcome.prepare * 1e9)
                self._add_past_span(phase, "prepare", start, middle)
                self._add_past_span(phase, "optimize", middle, middle + round(outcome.optimize * 1e9))
        span.set_attribute("gramophone.job.outcome", job.state.value)
        span.set_attribute("gramophone.job.attempts", job.attempts)
        if isinstance(outcome, Failure):
            _set_error(span, outcome.message)
        if phase is not None:
            phase.end()
        span.end()

    def left(self, job: Job) -> None:
        """Ends all spans of the job, without an outcome."""
        self._starts.pop(job.id, None)
        for spans in (self._phases, self._jobs):
            if (span := spans.pop(job.id, None)) is not None:
                span.end()

    def close(self) -> None:
        """Ends all open spans and exports the remaining ones. Blocks for a few seconds at most."""
        if self._provider is not None:
            for span in (*self._phases.values(), *self._jobs.values()):
                span.end()
            self._provider.force_flush(3000)
            self._provider.shutdown()

    def _set_current(self, trace: Trace | None) -> None:
        _current.set(trace)
        if trace is not None:
            mark(trace_id=trace.trace_id, span_id=trace.span_id)

    def _start_phase(self, job: Job, name: str) -> None:
        if (before := self._phases.pop(job.id, None)) is not None:
            before.end()
        if self._tracer is not None and job.id in self._jobs:
            attributes = {"gramophone.job.id": job.id, "gramophone.job.attempts": job.attempts}
            context = _context_of(_trace_of(self._jobs[job.id]))
            self._phases[job.id] = self._tracer.start_span(name, context, attributes=attributes)

    def _add_past_span(self, parent: Any, name: str, start: int, end: int) -> None:
        if self._tracer is not None and parent is not None:
            self._tracer.start_span(name, _context_of(_trace_of(parent)), start_time=start).end(end)


def _trace_of(span: Any) -> Trace:
    context = span.get_span_context()
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", bool(context.trace_flags.sampled))


def _context_of(trace: Trace | None) -> Any:
    """Returns an OpenTelemetry context with the span as parent; an empty one for None."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if trace is None:
        return Context()
    parent = SpanContext(
        int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=True, trace_flags=TraceFlags(int(trace.sampled))
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _set_error(span: Any, why: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, why))
