"""Links start worker processes and pass messages to and from them. `Launcher` is the interface for another kind."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Protocol

from ..messages.pipe import FromLink, ToWorker

log = logging.getLogger(__name__)

# How long OpenMP threads spin before they sleep: some tens of microseconds. If they spin longer, a step gets several
# times slower when another process needs a core; if they do not spin, it gets slower on an idle machine.
ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}
"""Environment variables of worker processes, for settings that are read before their Python code runs."""

# Seconds a process has to exit after its pipe has closed, before it is killed.
_EXIT_TIMEOUT = 2.0


class Link(Protocol):
    """A worker process and the way to it. All methods can block; any thread can call them.

    Attributes:
        name: what log messages call the process.
        pid: the id of the process; None if it is on another machine.
    """

    name: str
    pid: int | None

    def send(self, message: ToWorker) -> None:
        """Sends a message.

        Raises:
            OSError: the process has died.
        """
        ...

    def receive(self) -> FromLink:
        """Waits for the next message and returns it.

        Raises:
            EOFError, OSError: the process has died.
        """
        ...

    def wait(self) -> str:
        """Waits until the process has died; returns how, beginning with a verb."""
        ...

    @property
    def running(self) -> bool:
        """Whether the process has not died yet."""
        ...

    def kill(self) -> None:
        """Kills the process."""
        ...

    def stop(self) -> None:
        """Makes the process exit, and kills it if it does not."""
        ...


class Launcher(Protocol):
    """Starts worker processes of one device.

    Attributes:
        several: whether several processes can use the device together.
    """

    several: bool

    def launch(self) -> Link:
        """Starts a process. It waits for its configuration, which must be the first message.

        Raises:
            OSError: no process can be started.
        """
        ...


class LocalLauncher:
    """Starts worker processes here: new interpreters, never forks (neither gRPC nor CUDA survives a fork)."""

    several = True

    def launch(self) -> "LocalLink":
        """Starts a process, which communicates over a socket pair and exits when its end closes."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = spawn(theirs.fileno(), {**ENVIRONMENT, **os.environ})
            except BaseException:
                ours.close()
                raise
        return LocalLink(process, Connection(ours.detach()))


def spawn(fd: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts a worker process with one end of a pipe to it."""
    command = [sys.executable, "-m", "gramophone_server.worker", "--fd", str(fd)]
    # Its own process group: Ctrl-C in a terminal must reach only the front, which decides what happens to the jobs.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[fd], process_group=0, env=environment)


def death(code: int) -> str:
    """Returns how a process has ended, beginning with a verb."""
    return f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"


class LocalLink:
    """A worker process on this machine."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection) -> None:
        self._process = process
        self._connection = connection
        self.pid: int | None = process.pid
        self.name = str(process.pid)

    def send(self, message: ToWorker) -> None:
        """Sends a message."""
        self._connection.send(message)

    def receive(self) -> FromLink:
        """Waits for the next message and returns it."""
        message: FromLink = self._connection.recv()
        return message

    def wait(self) -> str:
        """Waits until the process has exited; returns how."""
        self._connection.close()
        return death(self._process.wait())

    @property
    def running(self) -> bool:
        """Whether the process has not exited yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()

    def stop(self) -> None:
        """Closes the pipe, which makes the process exit, and kills the process if it does not."""
        shut_down(self._connection)
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.warning("worker %s does not exit and is killed", self._process.pid)
            self._process.kill()
            self._process.wait()


def shut_down(connection: Connection) -> None:
    """Shuts down the socket of a connection. Closing does not wake a thread that reads; this wakes both ends."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
