"""Limits of connections, streams, heads and time, against clients that are many, slow or broken."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from gramophone.v1 import job_service_pb2 as pb
from tests.harness import ServerProcess, endless_request, wait_until
from tests.http import web
from tests.http.test_events import open_streams, submit


@pytest.fixture(scope="module")
def small() -> Iterator[ServerProcess]:
    """A server with few streams and connections."""
    args = ("--max-streams", "20", "--max-connections", "60", "--idle-timeout", "1")
    with ServerProcess("--http", "127.0.0.1:0", *args) as running:
        yield running


def raw(server: ServerProcess, data: bytes) -> socket.socket:
    """Returns a connection on which some bytes were sent."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 30)
    connection.sendall(data)
    return connection


def test_streams_are_limited_together_with_those_of_grpc(small):
    job_id = submit(small, endless_request())
    watch = b"GET /jobs/%b/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % job_id.encode()
    with contextlib.ExitStack() as stack:
        by_grpc = small.jobs.WatchJob(pb.WatchJobRequest(job_id=job_id))
        next(by_grpc)
        for _ in range(19):
            opened = stack.enter_context(raw(small, watch))
            assert opened.recv(15) == b"HTTP/1.1 200 OK"
        refused = web.request(small.url, "GET", f"/jobs/{job_id}/events")
        assert (refused.status, refused.json()["code"]) == (429, "resource_exhausted")
        assert int(refused.headers["retry-after"]) > 0
        by_grpc.cancel()
        wait_until(lambda: open_streams(small) == 19, "the stream to be freed")
        assert stack.enter_context(raw(small, watch)).recv(15) == b"HTTP/1.1 200 OK"
    wait_until(lambda: open_streams(small) == 0, "all streams to be freed")
    small.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


def test_a_new_connection_closes_an_idle_one_when_there_are_too_many(small):
    idle = [raw(small, b"") for _ in range(60)]
    try:
        assert web.request(small.url, "GET", "/healthz").status == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_connection_that_waits_is_closed(small):
    connection = web.connect(small.url)
    connection.request("GET", "/healthz")
    assert web.read(connection).status == 200
    assert connection.sock is not None
    started = time.monotonic()
    assert connection.sock.recv(1) == b""
    assert time.monotonic() - started < 20


def test_a_head_that_never_ends_is_cut_off(server):
    started = time.monotonic()
    with raw(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n") as slow:

        def trickle() -> None:
            with contextlib.suppress(OSError):
                for i in range(60):
                    slow.sendall(b"X-%d: y\r\n" % i)
                    time.sleep(0.5)

        threading.Thread(target=trickle, daemon=True).start()
        with contextlib.suppress(ConnectionError):
            assert slow.recv(100) == b""
    assert 5 < time.monotonic() - started < 25


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000,
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local\nhost\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_an_error_or_is_closed(server, data):
    with raw(server, data) as connection:
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(4096):
                got += piece
    assert got == b"" or got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 421 ", b"HTTP/1.1 501 ")), got
    assert web.request(server.url, "GET", "/healthz").status == 200


def test_a_thousand_idle_streams_cost_little_memory_and_end(server):
    process = psutil.Process(server.process.pid)
    job_id = submit(server, endless_request())
    watch = b"GET /jobs/%b/events?pictures=false HTTP/1.1\r\nHost: localhost\r\n\r\n" % job_id.encode()
    before, resident = open_streams(server), process.memory_info().rss
    opened = []
    try:
        for _ in range(1000):
            opened.append(raw(server, watch))
        wait_until(lambda: open_streams(server) == before + 1000, "all streams to be open", 120)
        assert process.memory_info().rss - resident < 100 << 20
        assert web.request(server.url, "GET", "/healthz").status == 200
    finally:
        for connection in opened:
            connection.close()
        server.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))
    wait_until(lambda: open_streams(server) == before, "all streams to be freed", 120)


def test_a_server_that_leaves_when_idle_stays_while_a_stream_is_open():
    with ServerProcess("--http", "127.0.0.1:0", "--leave-after", "1") as own:
        connection = web.connect(own.url)
        headers = {"Content-Type": "application/connect+proto"}
        connection.request("POST", "/grpc.health.v1.Health/Watch", web.envelope(b""), headers)
        assert connection.getresponse().read(5)[0] == 0
        time.sleep(3)
        assert own.process.poll() is None
        connection.close()
        assert own.process.wait(20) == 0
