"""Ray nodes on this machine, for `cluster.py` and the tests."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import TracebackType

import psutil

# Seconds until a node has joined. Nodes of one machine that start at the same time take ports from each other.
_START_TIMEOUT = 60.0
_ATTEMPTS = 4
# Workers have the priority of other processes; Ray gives them a lower one.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


class Node:
    """A Ray node: `ray start --block` with arguments. It stops with its `with` block.

    Args:
        folder: for the log and Ray's files.
        core: the CPU core on which all of its processes run; any if None.
    """

    def __init__(self, folder: Path, name: str, *arguments: str, core: int | None = None) -> None:
        self.log = folder / f"{name}.log"
        self._command = [
            str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-gpus", "0",
            "--object-store-memory", "100000000", *arguments,
        ]  # fmt: skip
        self._core = core
        self._start()

    def _start(self) -> None:
        pin = None if self._core is None else partial(os.sched_setaffinity, 0, {self._core})
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                process_group=0,
                env={**os.environ, **_ENVIRONMENT},
                preexec_fn=pin,
            )

    def __enter__(self) -> "Node":
        for _ in range(_ATTEMPTS):
            if self._has_joined():
                return self
            self.stop()
            self._start()
        self.stop()
        raise RuntimeError(f"the Ray node does not start:\n{self.log.read_text()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _has_joined(self) -> bool:
        """Waits until the node has joined; returns whether it has: Ray gives up early if the machine is busy."""
        deadline = time.monotonic() + _START_TIMEOUT
        while "Ray runtime started" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def stop(self) -> None:
        """Stops the node and all of its processes."""
        processes = self.processes()
        self.process.terminate()
        _, remaining = psutil.wait_procs(processes, 10)
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def processes(self) -> list[psutil.Process]:
        """Returns the processes of the node that are alive; the first is its main process."""
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return []


def head(folder: Path, port: int, cpus: int = 0) -> Node:
    """Starts the head of a cluster; it runs no worker without CPUs."""
    return Node(
        folder, "head", "--head", "--port", str(port), "--num-cpus", str(cpus), "--include-dashboard=false",
        "--temp-dir", str(folder / "ray"), "--ray-client-server-port", str(free_port()),
    )  # fmt: skip


def node(folder: Path, port: int, name: str, cpus: int = 1, core: int | None = None) -> Node:
    """Starts a further node."""
    return Node(folder, name, "--address", f"{own_address()}:{port}", "--num-cpus", str(cpus), core=core)


def own_address() -> str:
    """Returns the address of this machine by which Ray knows it: `ray start` does not accept 127.0.0.1."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def free_port() -> int:
    """Returns a port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])
