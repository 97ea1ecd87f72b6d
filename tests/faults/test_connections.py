"""Very many connections that send nothing, or very little, to a server with few file descriptors."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

import gramophone
from gramophone.v1 import job_pb2
from tests.harness import ServerProcess, events, wait_until

from .bystander import WATCHED, Bystander
from .checks import check_unharmed
from .http2 import PREFACE
from .recovery import request, undisturbed

pytestmark = pytest.mark.slow

MANY = 1150


@contextmanager
def connections(address: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Opens `count` connections, each of which sends `sent` and then nothing."""
    host, _, port = address.rpartition(":")
    made = []
    try:
        for _ in range(count):
            one = socket.create_connection((host, int(port)), timeout=10)
            made.append(one)
            with contextlib.suppress(OSError):
                one.sendall(sent)
            one.setblocking(False)
        yield made
    finally:
        for one in made:
            one.close()


def closed(made: list[socket.socket]) -> int:
    """Returns how many of the connections the server has closed."""
    count = 0
    for one in made:
        try:
            while one.recv(4096):
                pass
            count += 1
        except BlockingIOError:
            pass
        except OSError:
            count += 1
    return count


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    return undisturbed([request(seed, iterations=100) for seed in range(6)])


# The server raises a soft limit by itself; it cannot raise a hard limit, so it accepts fewer connections.
@pytest.mark.parametrize("files", [(1024, 20_000), (1024, 1024)], ids=["soft limit", "hard limit"])
@pytest.mark.alone
def test_many_silent_connections_end_no_job(expected: list[bytes], files: tuple[int, int]) -> None:
    with ServerProcess(*WATCHED, files=files) as server:
        streams = [events(server.style.ReconstructStyle(request(seed, iterations=100))) for seed in range(6)]
        for stream in streams:
            next(stream)
        with Bystander(server) as client, connections(server.address, MANY) as made:
            time.sleep(1)
            # A new client is answered too; if no descriptor is free, as soon as silent connections are closed.
            with gramophone.Client(server.address) as late:
                begun = time.monotonic()
                assert late.models()
                assert time.monotonic() - begun < (2 if files[1] > MANY else 15)
            wait_until(lambda: closed(made) == MANY, "silent connections to be closed", timeout=20)
        client.check()
        results = [list(stream)[-1] for stream in streams]
        assert {last.state for last in results} == {job_pb2.JOB_STATE_SUCCEEDED}
        assert [last.result.image.data for last in results] == expected
        assert "Too many open files" not in server.read_log()


@pytest.mark.parametrize(
    "sent", [b"", b"PRI", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", PREFACE],
    ids=["nothing", "half a preface", "HTTP/1", "TLS", "a preface"],
)  # fmt: skip
def test_connections_without_a_call_are_closed_within_seconds(server: ServerProcess, sent: bytes) -> None:
    workers = server.workers()
    with connections(server.address, 50, sent) as made:
        wait_until(lambda: closed(made) == 50, "the connections to be closed", timeout=15)
    check_unharmed(server, workers)


def test_an_idle_client_reconnects_by_itself() -> None:
    """The server closes its idle connection, and no connection with an open call."""
    with ServerProcess("--idle-timeout", "2") as server:
        running = events(server.style.ReconstructStyle(request(0, iterations=1_000_000)))
        waiting = events(server.style.ReconstructStyle(request(1, iterations=1)))
        assert next(running) and next(waiting)
        with gramophone.Client(server.address) as client:
            assert client.models()
            held = psutil.Process(server.process.pid).num_fds()
            wait_until(
                lambda: psutil.Process(server.process.pid).num_fds() < held,
                "the idle connection to be closed",
                timeout=20,
            )
            assert client.models()
            time.sleep(4)
            assert client.models()
            client.job(next(running).job_id).cancel()
        assert list(waiting)[-1].state == job_pb2.JOB_STATE_SUCCEEDED
