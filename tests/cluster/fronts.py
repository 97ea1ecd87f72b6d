"""Two servers on one PostgreSQL database, with workers on one Ray cluster, whose parts are killed and come back."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.faults.clusters import LEASE
from tests.faults.recovery import Restarting
from tests.harness import wait_until
from tests.postgres import Postgres

from .conftest import SECONDS, RayNodes, killed, ray_arguments

KINDS = ("front", "actor", "node", "database", "head")
"""What can be killed."""


class Parts:
    """The parts of the cluster.

    Attributes:
        fronts: the servers; each has one worker.
    """

    def __init__(self, folder: Path, postgres: Postgres, nodes: RayNodes) -> None:
        self.postgres, self.nodes = postgres, nodes
        # A busy machine connects slowly.
        database = f"{postgres.url}?connect_timeout=10"
        arguments = (
            *ray_arguments(nodes), "--ray-workers", "1", "--cluster", "--database", database, "--lease", str(LEASE),
            "--max-queued", "1000",
        )  # fmt: skip
        self.fronts = [Restarting(folder, *arguments) for _ in range(2)]
        self._logs: list[str] = []

    def kill(self, kind: str, rng: random.Random) -> None:
        """Kills a random part of a kind with SIGKILL; returns when it has been started again."""
        match kind:
            case "front":
                self._kill_front(rng.choice(self.fronts))
            case "actor":
                wait_until(lambda: bool(self.nodes.relays()), "an actor", SECONDS)
                killed([rng.choice(self.nodes.relays())])
            case "node":
                self.nodes.kill_node(rng.choice(self.nodes.nodes))
            case "database":
                self.postgres.kill()
                time.sleep(rng.uniform(0.0, 3.0))
                self.postgres.start()
            case "head":
                killed(self.nodes.head.processes())
                self.nodes.wait_for_end()
                self.nodes.start_again()

    def log(self) -> str:
        """Returns what all servers have written to their logs, those that were killed included."""
        return "\n".join([*self._logs, *(front.server.read_log() for front in self.fronts)])

    def stop(self) -> None:
        """Stops the servers, and checks that none of their processes remains."""
        processes = [
            child
            for front in self.fronts
            if front.server.process.poll() is None
            for child in psutil.Process(front.server.process.pid).children(recursive=True)
        ]
        for front in self.fronts:
            front.server.__exit__(None, None, None)
        _, remaining = psutil.wait_procs(processes, 20)
        assert not remaining

    def _kill_front(self, front: Restarting) -> None:
        front.kill()
        self._logs.append(front.server.read_log())
        front.start()


@contextlib.contextmanager
def two_fronts(folder: Path, postgres: Postgres, nodes: RayNodes) -> Iterator[Parts]:
    """Starts the servers, and waits for their workers."""
    parts = Parts(folder, postgres, nodes)
    try:
        wait_until(lambda: parts.log().count("is ready on") >= 2, "the workers", SECONDS)
        yield parts
    finally:
        parts.stop()
