"""The actor: starts a worker process on its node, and passes its messages on."""

import contextlib
import os
import pickle
import socket
import subprocess
import threading
import time
from collections.abc import Hashable
from multiprocessing.connection import Connection
from pathlib import Path

from ..messages.pipe import FromWorker, Heartbeat, Progressed, RoomRequest
from ..scheduling.link import ENVIRONMENT, death, shut_down, spawn
from .mailbox import Mailbox

POLL = 2.0
"""Seconds for which `messages` waits for a message."""

# Seconds without a call of `messages` after which the bridge counts as gone. The front gives the job to another worker
# when it has lost this one, so this one must not run forever.
_ABANDONED = 15.0
# Seconds a worker has to exit after its pipe has closed, before it is killed.
_EXIT_TIMEOUT = 2.0


class Relay:
    """A worker process and its mailbox. Ray calls the methods, each in a thread of its concurrency group."""

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._received = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._polled = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._end_if_abandoned, daemon=True).start()

    def start(self, probe: str) -> tuple[str, str | None]:
        """Starts the worker; returns the name of the node, and why the worker cannot be started, or None.

        Args:
            probe: a file that the front's machine has just written to the folder of the jobs.
        """
        if (trouble := folder_trouble(Path(probe))) is not None:
            return socket.gethostname(), trouble
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = spawn(theirs.fileno(), _environment())
        self._connection = Connection(ours.detach())
        threading.Thread(target=self._read, args=(self._connection, self._process), daemon=True).start()
        return socket.gethostname(), None

    def send(self, number: int, message: bytes) -> None:
        """Passes a message to the worker, unless one with this number or a later one was passed: a repeated call."""
        if number <= self._received:
            return
        self._received = number
        assert self._connection is not None
        # A broken pipe means that the worker has just died; `messages` reports it.
        with contextlib.suppress(OSError):
            self._connection.send_bytes(message)

    def messages(self, after: int) -> tuple[list[tuple[int, bytes]], str | None]:
        """Waits for messages of the worker; see `Mailbox.take`."""
        self._polled = time.monotonic()
        return self._mailbox.take(after, POLL)

    def close(self) -> None:
        """Makes the worker exit, and kills it if it does not."""
        self._closed.set()
        if self._connection is None or self._process is None:
            return
        shut_down(self._connection)
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = connection.recv_bytes()
                self._mailbox.put(_key(pickle.loads(message)), message)
        self._mailbox.close(death(process.wait()))

    def _end_if_abandoned(self) -> None:
        while not self._closed.wait(1):
            if time.monotonic() - self._polled > _ABANDONED:
                self.close()
                os._exit(1)


def folder_trouble(probe: Path) -> str | None:
    """Returns why a worker on this node cannot use the folder of the jobs, as a clause; None if it can."""
    node = socket.gethostname()
    if not probe.exists():
        return (
            f"node {node} does not see the files of the server in {probe.parent}; give --data a folder that all nodes "
            "share at the same path"
        )
    for name in (".", "checkpoints"):
        if not os.access(folder := probe.parent / name, os.W_OK | os.X_OK):
            return f"node {node} cannot write into {folder}; run Ray there as the user of the server"
    return None


def _environment() -> dict[str, str]:
    """Returns the environment of the worker: Ray's number of OpenMP threads is not that of --threads."""
    return {**ENVIRONMENT, **{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}}


def _key(message: FromWorker) -> Hashable:
    """Returns the key under which a newer message replaces this one; None if none does."""
    match message:
        case Progressed(job_id) | RoomRequest(job_id):
            return type(message), job_id
        case Heartbeat():
            return Heartbeat
    return None
