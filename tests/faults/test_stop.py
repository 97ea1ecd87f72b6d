"""After SIGTERM at any moment, the server ends within its grace period plus five seconds, whatever is blocked."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import Calls, endless_request, events, run, style_request, wait_until
from tests.marks import slow

GRACE = 1.0


class Server:
    """A server that only signals stop, as under a process manager."""

    def __init__(self, folder: Path, *args: str, grace: float = GRACE, stdin: int = subprocess.DEVNULL) -> None:
        self.log = folder / "log"
        command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--data", str(folder / "data")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--grace", str(grace), *args], stdin=stdin, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.grace = grace

    def address(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving on "), self.log.read_text()
        return line.removeprefix("serving on ").strip()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, *numbers: int) -> float:
        """Stops the server with SIGTERM or other signals; returns the seconds until it and its children have ended."""
        children, begun = self.children(), time.monotonic()
        for number in numbers or (signal.SIGTERM,):
            self.process.send_signal(number)
            time.sleep(0.6 if len(numbers) > 1 else 0)
        self.process.wait(self.grace + 10)
        took = time.monotonic() - begun
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
        return took


@contextmanager
def serving(folder: Path, *args: str, **options: float) -> Iterator[tuple[Server, Calls]]:
    server = Server(folder, *args, **options)  # type: ignore[arg-type]
    try:
        with Calls(server.address()) as calls:
            yield server, calls
    finally:
        if server.process.poll() is None:
            for child in server.children():
                child.kill()
            server.process.kill()
        server.process.wait()


def begin(calls: Calls, *, reproducible: bool = True) -> str:
    """Starts a job that runs until it is canceled, and returns its id."""
    request = endless_request()
    request.options.reproducible = reproducible
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    return next(e.job_id for e in events(calls.style.ReconstructStyle(request)) if e.HasField("progress"))


def test_an_idle_server_stops_with_status_0(tmp_path):
    with serving(tmp_path) as (server, calls):
        run(calls, style_request())
        assert server.stop() < 4
        assert server.process.returncode == 0


@pytest.mark.slow
def test_a_suspended_worker_does_not_delay_a_stop(tmp_path):
    with serving(tmp_path) as (server, calls):
        job_id = begin(calls)
        for child in server.children():
            child.suspend()
        assert server.stop() < GRACE + 5
    with serving(tmp_path) as (server, calls):
        job = calls.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job
        assert job.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)


def test_a_locked_database_does_not_delay_a_stop(tmp_path):
    with serving(tmp_path) as (server, calls):
        begin(calls)
        with sqlite3.connect(tmp_path / "data" / "jobs.sqlite", isolation_level=None) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            assert server.stop() < GRACE + 5
            lock.execute("ROLLBACK")


@pytest.mark.slow
def test_a_stop_while_a_server_waits_for_a_locked_database(tmp_path):
    with serving(tmp_path) as (server, _):
        server.stop()
    with sqlite3.connect(tmp_path / "data" / "jobs.sqlite", isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        server = Server(tmp_path)
        time.sleep(2)
        if server.process.poll() is None:
            assert server.stop() < GRACE + 5
        lock.execute("ROLLBACK")


@pytest.mark.parametrize("option", ["--tokens", "--tls-certificate"])
def test_a_pipe_in_place_of_a_file_ends_the_start(option, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    others = ["--tls-key", str(tmp_path / "pipe")] if option == "--tls-certificate" else []
    server = Server(tmp_path, option, str(tmp_path / "pipe"), *others)
    assert server.process.wait(20) == 1
    assert "it is a pipe, not a file" in server.log.read_text()


@pytest.mark.parametrize("delay", [0.0, slow(0.3), 0.6, slow(0.9), slow(1.5), 3.0])
def test_a_stop_at_any_moment_of_the_start(tmp_path, delay):
    server = Server(tmp_path)
    time.sleep(delay)
    assert server.stop() < GRACE + 5
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("what", ["loop", slow("log"), slow("threads")])
def test_a_blocked_front_does_not_delay_a_stop(tmp_path, what, monkeypatch):
    """Writes to its log block, its threads wait for a pipe, or its event loop waits for a pipe."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED[what])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("STUCK_PIPE", str(tmp_path / "pipe"))
    with serving(tmp_path, "--log-level", "debug") as (server, calls):
        begin(calls)
        server.process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        assert server.stop() < GRACE + 5


BLOCKED = {
    # Standard error becomes a full pipe that nobody reads.
    "log": """
import os, signal, sys
def stick(*_):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    os.dup2(writing, 2)
signal.signal(signal.SIGUSR1, stick)
""",
    "threads": """
import asyncio, os, signal
def stick(*_):
    loop = asyncio.get_running_loop()
    for _ in range(40):
        loop.run_in_executor(None, open, os.environ["STUCK_PIPE"])
signal.signal(signal.SIGUSR1, lambda *_: asyncio.get_running_loop().call_soon(stick))
""",
    "loop": """
import os, signal
signal.signal(signal.SIGUSR1, lambda *_: open(os.environ["STUCK_PIPE"]))
""",
}


@pytest.mark.slow
def test_a_second_signal_stops_the_server_at_once(tmp_path):
    with serving(tmp_path, grace=30) as (server, calls):
        begin(calls)
        for child in server.children():
            child.suspend()
        assert server.stop(signal.SIGINT, signal.SIGINT) < 4


@pytest.mark.slow
def test_the_end_of_standard_input_stops_a_server_with_a_suspended_worker(tmp_path):
    with serving(tmp_path, "--until-stdin-closes", stdin=subprocess.PIPE) as (server, calls):
        begin(calls)
        for child in server.children():
            child.suspend()
        begun = time.monotonic()
        assert server.process.stdin is not None
        server.process.stdin.close()
        server.process.wait(20)
        assert time.monotonic() - begun < GRACE + 5


def test_sighup_reloads_models_and_the_server_goes_on(tmp_path):
    with serving(tmp_path) as (server, calls):
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "models read again: vgg19-random, vgg19-slim" in server.log.read_text(), "the reload")
        run(calls, style_request())


def loading(server: Server) -> None:
    """Waits for the worker process, which then still loads its libraries."""
    wait_until(lambda: bool(server.children()), "a worker")


def painting(server: Server) -> None:
    """Starts a job."""
    with Calls(server.address()) as calls:
        begin(calls)


def sharing(server: Server) -> None:
    """Starts two jobs that share the CPU, each in its own worker process."""
    with Calls(server.address()) as calls:
        begin(calls, reproducible=False)
        begin(calls, reproducible=False)
    assert sum("gramophone_server.worker" in child.cmdline() for child in server.children()) == 2


def test_a_stop_ends_all_workers_of_a_device(tmp_path):
    server = Server(tmp_path, "--threads", "2")
    sharing(server)
    assert server.stop() < GRACE + 5
    assert server.process.returncode == 0


@pytest.mark.parametrize("when", [loading, slow(painting), sharing])
def test_workers_end_when_the_front_is_killed(tmp_path, when: Callable[[Server], None]):
    server = Server(tmp_path, "--threads", "2")
    when(server)
    children = server.children()
    assert children
    threading.Event().wait(0.2)
    server.process.kill()
    server.process.wait()
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive
