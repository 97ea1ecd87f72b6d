"""The front's side of a Ray cluster: the bridge process, and the links of workers through it."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from ..messages.bridge import Connected, FromBridge, Lost, Unreachable
from ..messages.pipe import Delayed, FromLink, Placed, ToWorker
from ..settings import WorkerSettings
from .link import shut_down

log = logging.getLogger(__name__)

# Seconds until a bridge that has ended is started again: the first pause, doubled each time up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
# Seconds the bridge has to exit after its socket has closed.
_EXIT_TIMEOUT = 10.0


class RayError(RuntimeError):
    """Workers cannot run on Ray with these settings; the message says why."""


def check_ray(settings: WorkerSettings) -> None:
    """Checks settings of workers on Ray.

    Raises:
        RayError: ray is not installed, or the devices cannot be workers' on Ray.
    """
    if importlib.util.find_spec("ray") is None:
        raise RayError("--executor ray needs ray: pip install 'gramophone[ray]'")
    if len(settings.devices) != 1 or settings.devices[0] not in ("auto", "cpu", "cuda"):
        raise RayError(
            f"--executor ray cannot use --device {' --device '.join(settings.devices)}; write --device cuda for "
            "workers on GPUs, which Ray chooses, or --device cpu"
        )
    if settings.devices == ("cpu",) and settings.threads == 0:
        raise RayError("--executor ray with --device cpu needs --threads, the number of CPUs of each worker")


class RayCluster:
    """Launches workers on the nodes of a Ray cluster.

    The bridge, a process of its own, is connected to the cluster; it is started again when it has ended, and the links
    of its workers end with it. A link that is launched without a connection waits for it.

    Args:
        settings: settings of the workers.
        data: the folder of the jobs, which all nodes must share.
        log_format: format of the bridge's log.
        on_room: is called on the event loop with the number of workers for which the cluster has places.

    Raises:
        RayError: see check_ray.
    """

    several = False

    def __init__(
        self, settings: WorkerSettings, data: Path, log_format: str, on_room: Callable[[int], object] = bool
    ) -> None:
        check_ray(settings)
        self._settings = settings
        self._data = data
        self._log_format = log_format
        self._on_room = on_room
        self._lock = threading.Lock()
        self._reason = f"the Ray cluster at {settings.ray_address} has not been reached yet"
        # The socket to the bridge while it is connected to the cluster.
        self._control: socket.socket | None = None
        # The bridge's ends of links that wait for a connection.
        self._waiting: list[Connection] = []
        self._stopping = threading.Event()
        self._supervisor: threading.Thread | None = None
        # The front's end of the socket to the running bridge.
        self._states: Connection | None = None

    async def start(self) -> None:
        """Starts the bridge; returns before it is connected."""
        self._supervisor = threading.Thread(
            target=self._supervise, args=(asyncio.get_running_loop(),), name="bridge", daemon=True
        )
        self._supervisor.start()

    async def stop(self) -> None:
        """Stops the bridge and with it all workers."""
        self._stopping.set()
        with self._lock:
            if self._states is not None:
                shut_down(self._states)
        if self._supervisor is not None:
            await asyncio.to_thread(self._supervisor.join)

    def launch(self) -> "RayLink":
        """Starts a worker as soon as the cluster is connected and has a place for it."""
        ours, theirs = socket.socketpair()
        with self._lock:
            self._hand_over(Connection(theirs.detach()))
        return RayLink(Connection(ours.detach()))

    def _hand_over(self, end: Connection) -> None:
        """Passes the bridge's end of a link to the bridge, or keeps it until there is a connection."""
        with contextlib.suppress(OSError):
            if self._control is not None:
                with end:
                    socket.send_fds(self._control, [b"w"], [end.fileno()])
            else:
                end.send(Delayed(self._reason))
                self._waiting.append(end)

    def _supervise(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            connected = self._run_bridge(loop)
            pause = _FIRST_PAUSE if connected else min(2 * pause, _LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _run_bridge(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Runs the bridge until it ends; returns whether it was connected."""
        ours, theirs = socket.socketpair()
        connected = False
        with ours, contextlib.closing(Connection(os.dup(ours.fileno()), writable=False)) as states:
            with theirs:
                process = self._spawn(theirs.fileno())
            with self._lock:
                self._states = states
            with contextlib.suppress(EOFError, OSError):
                while not self._stopping.is_set():
                    state: FromBridge = states.recv()
                    connected = isinstance(state, Connected)
                    self._follow(state, ours, loop)
            self._disconnect(connected=connected)
            shut_down(states)
            _end(process)
        return connected

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        settings = self._settings
        command = [
            sys.executable, "-m", "gramophone_server.bridge", "--fd", str(fd), "--address", settings.ray_address,
            "--device", settings.devices[0], "--threads", str(settings.threads), "--data", str(self._data.resolve()),
            "--log-format", self._log_format,
        ]  # fmt: skip
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[fd], process_group=0
        )

    def _follow(self, state: FromBridge, control: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            match state:
                case Unreachable(reason):
                    self._delay(reason)
                case Connected(workers):
                    if self._control is None:
                        log.info("connected to the Ray cluster at %s", self._settings.ray_address)
                    self._control = control
                    waiting, self._waiting = self._waiting, []
                    for end in waiting:
                        self._hand_over(end)
                    with contextlib.suppress(RuntimeError):  # The event loop has closed.
                        loop.call_soon_threadsafe(self._on_room, workers)

    def _disconnect(self, *, connected: bool) -> None:
        with self._lock:
            self._control = self._states = None
            if connected:
                self._delay(f"the connection to the Ray cluster at {self._settings.ray_address} was lost")

    def _delay(self, reason: str) -> None:
        """Tells the links that wait for a connection why there is none."""
        if reason == self._reason:
            return
        log.warning("workers wait: %s", reason)
        self._reason = reason
        waiting, self._waiting = self._waiting, []
        for end in waiting:
            self._hand_over(end)


class RayLink:
    """A worker on a Ray cluster, behind the bridge."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ending = "was lost with the connection to the Ray cluster"
        self._ended = threading.Event()
        self.pid: int | None = None
        self.name = "on Ray"

    def send(self, message: ToWorker) -> None:
        """Sends a message."""
        self._connection.send(message)

    def receive(self) -> FromLink:
        """Waits for the next message and returns it."""
        message: FromLink | Lost = self._connection.recv()
        if isinstance(message, Placed):
            self.name = f"on node {message.node}"
        if isinstance(message, Lost):
            self._ending = message.reason
            raise EOFError
        return message

    def wait(self) -> str:
        """Returns how the worker has ended."""
        self._connection.close()
        self._ended.set()
        return self._ending

    @property
    def running(self) -> bool:
        """Whether the worker has not ended yet."""
        return not self._ended.is_set()

    def kill(self) -> None:
        """Closes the link, after which the bridge ends the worker."""
        shut_down(self._connection)

    def stop(self) -> None:
        """Closes the link, after which the bridge ends the worker."""
        shut_down(self._connection)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Waits until the bridge has exited, which its closed socket makes it do, and kills it if it does not."""
    try:
        process.wait(_EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
