"""Traces: parsing of traceparent metadata, and the spans that a real collector receives."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import gramophone
from gramophone_server.observability.tracing import Trace, read_traceparent
from tests.harness import ServerProcess, run, style_request
from tests.observability.test_logs import SPAN, TRACE, TRACEPARENT, lines


@pytest.mark.parametrize(
    ("value", "trace"),
    [
        (f"00-{TRACE}-{SPAN}-01", Trace(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", Trace(TRACE, SPAN, False)),
        (f"cc-{TRACE}-{SPAN}-03-more", Trace(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
        (b"00", None),
    ],
)
def test_parsing_of_traceparent(value, trace):
    assert read_traceparent((("other", "x"), ("traceparent", value))) == trace


def test_no_or_several_traceparents_give_no_trace():
    assert read_traceparent(None) is None
    assert read_traceparent(TRACEPARENT * 2) is None


class Collector:
    """An OTLP collector on a free port that keeps the spans it receives."""

    def __init__(self) -> None:
        service = pytest.importorskip(
            "opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc", reason="OpenTelemetry is not installed"
        )
        pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="OpenTelemetry is not installed")
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        self.spans: list[Any] = []
        lock = threading.Lock()

        class Servicer(service.TraceServiceServicer):  # type: ignore[misc,name-defined]
            def Export(_, request: Any, context: Any) -> Any:
                with lock:
                    self.spans += [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
                return ExportTraceServiceResponse()

        self.server = grpc.server(ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(Servicer(), self.server)
        self.address = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def named(self, name: str) -> Any:
        """Returns the only span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    running = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
    yield running
    running.server.stop(None)


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_spans_of_a_call_and_its_job(collector):
    with ServerProcess("--log-format", "json") as server:
        list(server.style.ReconstructStyle(style_request(), metadata=TRACEPARENT))
        with pytest.raises(grpc.RpcError):
            run(server, style_request(size=1))
        log = lines(server)
    painted, refused = sorted(
        (s for s in collector.spans if s.name.endswith("/ReconstructStyle")), key=lambda s: s.start_time_unix_nano
    )
    assert painted.trace_id.hex() == TRACE and painted.parent_span_id.hex() == SPAN
    assert attributes(painted)["rpc.grpc.status"] == "OK"
    assert attributes(refused)["rpc.grpc.status"] == "INVALID_ARGUMENT"
    assert refused.trace_id != painted.trace_id
    job = collector.named("job style")
    assert job.trace_id.hex() == TRACE and job.parent_span_id == painted.span_id
    found = attributes(job)
    assert found["gramophone.job.kind"] == "style"
    assert (found["gramophone.job.width"], found["gramophone.job.height"]) == (32, 32)
    assert (found["gramophone.job.iterations"], found["gramophone.job.iterations_done"]) == (4, 4)
    assert (found["gramophone.job.outcome"], found["gramophone.job.attempts"]) == ("succeeded", 1)
    queued, running = collector.named("queued"), collector.named("running")
    for phase in (queued, running):
        assert phase.parent_span_id == job.span_id
    assert queued.end_time_unix_nano <= running.start_time_unix_nano
    prepare, optimize = collector.named("prepare"), collector.named("optimize")
    for part in (prepare, optimize):
        assert part.parent_span_id == running.span_id
        assert part.end_time_unix_nano > part.start_time_unix_nano
    # The log has the same trace and span ids.
    (line,) = [line for line in log if line["message"].endswith("succeeded")]
    assert (line["trace_id"], line["span_id"]) == (TRACE, job.span_id.hex())


def test_a_failed_job_has_a_span_with_an_error(collector, tmp_path):
    with ServerProcess("--data", str(tmp_path), "--checkpoint-every", "0", "--attempts", "1") as server:
        stream = server.style.ReconstructStyle(style_request(iterations=100_000))
        while not next(stream).event.HasField("progress"):
            pass
        (worker,) = server.workers()
        worker.kill()
        list(stream)
    job = collector.named("job style")
    assert job.status.code == job.status.STATUS_CODE_ERROR and "signal 9" in job.status.message
    assert attributes(job)["gramophone.job.outcome"] == "failed"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_client_sends_its_trace(collector, asynchronous):
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason="OpenTelemetry is not installed")
    tracer = trace.TracerProvider().get_tracer("test")
    with ServerProcess() as server:
        with tracer.start_as_current_span("mine") as mine:
            if asynchronous:
                async with gramophone.aio.Client(server.address) as client:
                    await client.models()
            else:
                with gramophone.Client(server.address) as client:
                    client.models()
    span = collector.named("gramophone.v1.ModelService/ListModels")
    context = mine.get_span_context()
    assert int.from_bytes(span.trace_id) == context.trace_id
    assert int.from_bytes(span.parent_span_id) == context.span_id


def test_the_server_works_without_opentelemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Even if the variables name a collector, which is not running."""
    hide(tmp_path, monkeypatch, "opentelemetry")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with ServerProcess("--log-format", "json") as server:
        list(server.style.ReconstructStyle(style_request(), metadata=TRACEPARENT))
        log = lines(server)
    assert any("pip install 'gramophone[tracing]'" in line["message"] for line in log)
    (line,) = [line for line in log if line["message"].endswith("succeeded")]
    assert line["trace_id"] == TRACE


def hide(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Makes a package impossible to import in processes that are started from now on."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
