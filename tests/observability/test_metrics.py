"""Metrics scraped over HTTP, compared with what happened on the server."""

import gzip
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import psutil
import pytest

from gramophone.v1 import job_pb2, job_service_pb2
from gramophone_server.security.tokens import add_token
from tests.harness import ServerProcess, endless_request, events, run, style_request, wait_until

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
PAINT = "gramophone.v1.StyleTransferService/ReconstructStyle"


class Scrape:
    """The current metrics of a server."""

    def __init__(self, server: ServerProcess) -> None:
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", server.read_log())
        assert found, server.read_log()
        with urllib.request.urlopen(found[0], timeout=10) as answer:
            text = answer.read().decode()
        self.samples = [s for family in parser.text_string_to_metric_families(text) for s in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The sample of `gramophone_` + name with exactly those labels."""
        return next((s.value for s in self.samples if s.name == f"gramophone_{name}" and s.labels == labels), None)


def settled(server: ServerProcess, calls: int = 0) -> Scrape:
    """Waits until `calls` calls are open and returns the metrics: the server counts a call after its client's end."""

    def open_calls() -> float:
        return sum(sample.value for sample in Scrape(server).samples if sample.name == "gramophone_rpcs_open")

    wait_until(lambda: open_calls() == calls, f"{calls} open calls")
    return Scrape(server)


def begin(server: ServerProcess, request: Any) -> tuple[Any, str]:
    """Submits a job, waits for its first progress, and returns (its stream, its id)."""
    stream = server.style.ReconstructStyle(request)
    for event in events(stream):
        if event.HasField("progress"):
            return stream, event.job_id
    raise AssertionError("the job ended without progress")


def test_finished_jobs_and_calls_are_counted(tmp_path):
    with ServerProcess("--metrics-port", "0", "--data", str(tmp_path)) as server:
        before = Scrape(server)
        assert before.value("iterations_total", kind="style") == 0
        assert before.value("worker_restarts_total", worker="0") == 0
        for iterations in (4, 3):
            run(server, style_request(iterations=iterations))
        stream, job_id = begin(server, endless_request())
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        list(stream)
        with pytest.raises(grpc.RpcError):
            run(server, style_request(size=1))
        with pytest.raises(grpc.RpcError):
            server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id="nobody"))
        wait_until(
            lambda: (Scrape(server).value("device_resident_bytes", worker="0", device="cpu") or 0) > 0,
            "a report of memory",
        )
        after = settled(server)
        assert after.value("job_seconds_count", kind="style", outcome="succeeded") == 2
        assert after.value("job_seconds_count", kind="style", outcome="cancelled") == 1
        assert after.value("job_wait_seconds_count", kind="style") == 3
        assert (after.value("iterations_total", kind="style") or 0) >= 4 + 3 + 2
        assert after.value("refusals_total", reason="invalid") == 1
        assert after.value("rpcs_total", method=PAINT, code="OK") == 3
        assert after.value("rpcs_total", method=PAINT, code="INVALID_ARGUMENT") == 1
        assert after.value("rpcs_total", method="gramophone.v1.JobService/GetJob", code="NOT_FOUND") == 1
        assert after.value("rpc_seconds_count", method="gramophone.v1.JobService/CancelJob") == 1
        assert after.value("rpc_seconds_count", method=PAINT) is None
        for name in ("jobs_waiting", "streams_open"):
            assert after.value(name) == 0
        assert after.value("jobs_running", kind="style") == 0
        assert after.value("iterations_per_second", kind="style") == 0
        assert after.value("worker_up", worker="0") == 1
        on_disk = sum(path.stat().st_size for path in (tmp_path / "blobs").rglob("*") if path.is_file())
        assert after.value("stored_bytes") == on_disk > 0
        (worker,) = server.workers()
        held = after.value("device_resident_bytes", worker="0", device="cpu")
        assert held == pytest.approx(worker.memory_info().rss, rel=0.2)
        assert psutil.Process(server.process.pid).memory_info().rss < 120 << 20


def test_running_jobs_and_open_calls_are_shown(tmp_path):
    with ServerProcess("--metrics-port", "0", "--max-queued", "1", "--data", str(tmp_path)) as server:
        stream, job_id = begin(server, endless_request())
        waiting = server.style.ReconstructStyle(style_request())
        next(waiting)
        with pytest.raises(grpc.RpcError):
            run(server, style_request())
        now = settled(server, calls=2)
        assert now.value("jobs_running", kind="style") == 1
        assert (now.value("iterations_per_second", kind="style") or 0) > 0
        assert now.value("jobs_waiting") == 1
        assert now.value("streams_open") == now.value("rpcs_open", method=PAINT) == 2
        assert now.value("refusals_total", reason="queue_full") == 1
        (worker,) = server.workers()
        worker.kill()
        wait_until(lambda: Scrape(server).value("job_resumes_total", kind="style") == 1, "the job's second attempt")
        wait_until(lambda: Scrape(server).value("worker_restarts_total", worker="0") == 1, "the next worker")
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        assert list(events(stream))[-1].state == job_pb2.JOB_STATE_CANCELLED
        assert list(events(waiting))[-1].state == job_pb2.JOB_STATE_SUCCEEDED
        after = settled(server)
        assert after.value("job_wait_seconds_count", kind="style") == 3
        assert after.value("rpcs_open", method=PAINT) == 0


def test_unknown_methods_share_one_time_series(tmp_path):
    tokens = tmp_path / "tokens.json"
    add_token(tokens, "alice", admin=False)
    with ServerProcess("--metrics-port", "0", "--tokens", str(tokens)) as server:
        for name in ("a", "b"):
            with pytest.raises(grpc.RpcError):
                cast(Any, server.channel).unary_unary(f"/made.up/{name}")(b"")

        def counted() -> bool:
            # The server counts a call after its client has received the response.
            return Scrape(server).value("rpcs_total", method="other", code="UNAUTHENTICATED") == 2

        wait_until(counted, "the calls to be counted")
        now = Scrape(server)
        assert now.value("refusals_total", reason="unauthenticated") == 2
        assert not [sample for sample in now.samples if "made.up" in str(sample.labels)]


@pytest.mark.slow
def test_a_job_resumed_from_an_earlier_server_is_counted_as_a_resume(tmp_path):
    with ServerProcess("--data", str(tmp_path)) as server:
        _, job_id = begin(server, endless_request())
        server.process.kill()
        server.process.wait()
    with ServerProcess("--metrics-port", "0", "--data", str(tmp_path)) as server:
        wait_until(lambda: Scrape(server).value("job_resumes_total", kind="style") == 1, "the job's second attempt")
        assert Scrape(server).value("job_wait_seconds_count", kind="style") == 1
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))


def test_metrics_are_not_served_by_default(server: ServerProcess):
    assert "metrics on" not in server.read_log()
    listening = [c for c in psutil.Process(server.process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.port for c in listening} == {int(at.rpartition(":")[2]) for at in (server.address, server.url)}


def test_a_port_in_use_is_a_clear_error(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--data", str(tmp_path)]
        done = subprocess.run([*command, "--metrics-port", port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"metrics cannot be served on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_optional_packages_are_not_imported_by_default():
    code = (
        "import sys, gramophone_server.cli; "
        "print([m for m in ('prometheus_client', 'opentelemetry', 'tensorboard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def ask(server: ServerProcess, request: bytes) -> bytes:
    """Sends bytes to the metrics port and returns its response."""
    with socket.create_connection(port_of(server), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def port_of(server: ServerProcess) -> tuple[str, int]:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", server.read_log())
    assert found
    return "127.0.0.1", int(found[1])


@pytest.fixture(scope="module")
def measured() -> Iterator[ServerProcess]:
    with ServerProcess("--metrics-port", "0") as server:
        yield server


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"GET /metrics?x=1 HTTP/1.0\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"\xff\x00\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000, b"400 Bad Request"),
    ],
)
def test_the_status_of_http_requests(measured, request_, status):
    try:
        answer = ask(measured, request_)
    except ConnectionResetError:
        assert status.startswith(b"400")  # The server refused the request before all of it had been sent.
        return
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")


def test_text_openmetrics_gzip_and_head(measured):
    plain = ask(measured, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in plain
    headers = b"Accept: application/openmetrics-text; version=1.0.0\r\nAccept-Encoding: gzip\r\n"
    modern = ask(measured, b"GET /metrics HTTP/1.1\r\n" + headers + b"\r\n")
    head, _, body = modern.partition(b"\r\n\r\n")
    assert b"application/openmetrics-text" in head
    assert gzip.decompress(body).endswith(b"# EOF\n")
    head = ask(measured, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.slow
def test_idle_connections_use_no_threads_and_do_not_block_scrapes(measured):
    front = psutil.Process(measured.process.pid)
    Scrape(measured)
    threads, descriptors = front.num_threads(), front.num_fds()
    idle = [socket.create_connection(port_of(measured), timeout=10) for _ in range(300)]
    try:
        for _ in range(5):
            begun = time.monotonic()
            assert Scrape(measured).value("jobs_waiting") == 0
            assert time.monotonic() - begun < 1
            idle.append(socket.create_connection(port_of(measured), timeout=10))
        assert front.num_threads() <= threads + 2
        assert front.num_fds() <= descriptors + 70
        # The server closes idle connections.
        wait_until(lambda: front.num_fds() <= descriptors + 2, "the end of the connections", timeout=8)
    finally:
        for connection in idle:
            connection.close()


def test_a_scrape_that_is_never_read_is_aborted(measured):
    front = psutil.Process(measured.process.pid)
    descriptors = front.num_fds()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.connect(port_of(measured))
        slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        Scrape(measured)
        wait_until(lambda: front.num_fds() <= descriptors, "the end of the connection", timeout=15)
