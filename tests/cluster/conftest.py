"""A real Ray cluster of three nodes on this machine; two of them have one CPU each, for one worker."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from examples.ray_nodes import Node, free_port, head, node, own_address
from tests.faults.recovery import ONE_THREAD
from tests.harness import ServerProcess

SECONDS = 180
"""Time for a worker to die, to be replaced and to open its device."""


class RayNodes:
    """The nodes of a cluster, which tests kill and replace.

    Attributes:
        address: address of the head, HOST:PORT.
        head: the head, which runs no worker.
        nodes: the nodes of the workers.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._port = free_port()
        self._count = 0
        self.address = f"{own_address()}:{self._port}"
        self.start_head()
        self.nodes: list[Node] = []
        for _ in range(2):
            self.add_node()

    def start_head(self) -> None:
        """Starts a head at the address, for a new cluster."""
        self.head = self._stack.enter_context(head(self._folder, self._port))

    def add_node(self) -> Node:
        """Starts one more node."""
        self._count += 1
        self.nodes.append(self._stack.enter_context(node(self._folder, self._port, f"node-{self._count}")))
        return self.nodes[-1]

    def kill_node(self, one: Node) -> None:
        """Kills all processes of a node, as if its machine lost power, and starts another one."""
        killed(one.processes())
        self.nodes.remove(one)
        self.add_node()

    def wait_for_end(self) -> None:
        """Waits until the nodes have ended after the death of their head: no other can start there until then."""
        for one in self.nodes:
            one.process.wait(SECONDS)
        self.nodes.clear()

    def start_again(self) -> None:
        """Starts a head at the address of the one that was killed, and new nodes."""
        self.start_head()
        for _ in range(2):
            self.add_node()

    def relays(self) -> list[psutil.Process]:
        """Returns the processes of the actors."""
        return self._named("ray::Relay")

    def workers(self) -> list[psutil.Process]:
        """Returns the worker processes on the nodes."""
        return self._named("gramophone_server.worker")

    def raylets(self, one: Node) -> list[psutil.Process]:
        """Returns the process that is a node's agent of Ray."""
        return [process for process in one.processes() if "raylet/raylet" in _command(process)]

    def worker_logs(self) -> str:
        """Returns what all workers have written to their logs, which are those of Ray."""
        return "\n".join(path.read_text() for path in (self._folder / "ray").glob("session_2*/logs/worker-*.err"))

    def _named(self, text: str) -> list[psutil.Process]:
        return [process for one in self.nodes for process in one.processes() if text in _command(process)]


def killed(processes: list[psutil.Process]) -> None:
    """Kills processes, of which there must be one."""
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[RayNodes]:
    """The cluster; skips the test where ray is not installed."""
    # Seconds until nodes and the bridge end without a head.
    os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "10"  # noqa: SIM112 - Ray's spelling
    pytest.importorskip("ray", reason="ray is not installed: pip install 'gramophone[ray]'")
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, contextlib.ExitStack() as stack:
        yield RayNodes(Path(folder), stack)


@pytest.fixture(scope="module")
def on_ray(ray_nodes, tmp_path_factory) -> Iterator[ServerProcess]:
    """A server whose workers run on the nodes."""
    data = tmp_path_factory.mktemp("on-ray") / "data"
    with ServerProcess("--data", str(data), *ray_arguments(ray_nodes)) as server:
        yield server


def ray_arguments(nodes: RayNodes) -> tuple[str, ...]:
    """Returns the arguments of a server whose workers run on the nodes."""
    return (
        "--executor", "ray", "--ray-address", nodes.address, "--device", "cpu", *ONE_THREAD,
        "--checkpoint-every", "0.05", "--attempts", "100", "--http", "127.0.0.1:0",
    )  # fmt: skip
