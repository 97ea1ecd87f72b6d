"""The connection to a Ray cluster, and the places for workers there."""

import re
import socket
from dataclasses import dataclass
from typing import Any

import ray

from ..settings.checks import split_address

# Seconds to connect to the port of the cluster. Ray itself would try for minutes.
_CONNECT_TIMEOUT = 5.0


class ClusterError(Exception):
    """The cluster cannot be used; the message says why, as a clause."""


@dataclass(frozen=True)
class Place:
    """What each worker takes of its node: one GPU or, without, some CPUs."""

    gpus: int
    cpus: int

    @property
    def device(self) -> str:
        """The setting of the worker's device; Ray lets the worker see only its own GPU."""
        return "cuda:0" if self.gpus else "cpu"

    @property
    def text(self) -> str:
        """What a worker takes, for messages."""
        return "a GPU" if self.gpus else f"{self.cpus} CPU{'s' * (self.cpus > 1)}"

    def number_on(self, node: dict[str, float]) -> int:
        """Returns how many workers a node with such resources can have."""
        if self.gpus:
            return int(node.get("GPU", 0))
        return int(node.get("CPU", 0)) // self.cpus


def check_port(address: str) -> None:
    """Checks that something listens at an address HOST:PORT or ray://HOST:PORT; accepts other addresses.

    Raises:
        ClusterError: nothing does.
    """
    if not re.fullmatch(r"(ray://)?.*:\d+", address):
        return
    try:
        socket.create_connection(split_address(address.removeprefix("ray://")), _CONNECT_TIMEOUT).close()
    except OSError as error:
        raise ClusterError(f"cannot be reached: {error.strerror or error}") from error


def connect(address: str) -> None:
    """Connects to the cluster.

    Raises:
        ClusterError: the cluster cannot be reached, or has another version of Ray or Python.
    """
    check_port(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:
        raise ClusterError(f"cannot be used: {' '.join(str(error).split()).rstrip('.')}") from error


def living_nodes() -> list[dict[str, float]]:
    """Returns the resources of each node that is alive. Blocks while the head does not answer."""
    nodes: list[dict[str, Any]] = ray.nodes()
    return [node["Resources"] for node in nodes if node["Alive"]]


def choose_place(device: str, threads: int, nodes: list[dict[str, float]]) -> Place:
    """Returns what each worker takes.

    Args:
        device: "cuda", "cpu", or "auto" for GPUs if there is one.
        threads: CPUs of a worker; 0 for none beside its GPU.

    Raises:
        ClusterError: there is no GPU, and no number of threads.
    """
    if device == "cuda" or (device == "auto" and any(node.get("GPU", 0) >= 1 for node in nodes)):
        return Place(1, threads)
    if threads == 0:
        raise ClusterError("has no GPU; for workers on CPUs, give --threads, the number of CPUs of each worker")
    return Place(0, threads)
