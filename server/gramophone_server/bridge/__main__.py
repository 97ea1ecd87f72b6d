"""The entry point of the bridge; the front starts it as `python -m gramophone_server.bridge --fd NUMBER …`."""

import argparse
import contextlib
import logging
import os
import socket
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from ..logs import configure
from ..messages.bridge import Connected, FromBridge, Unreachable
from .cluster import ClusterError, Place, choose_place, connect, living_nodes
from .passage import Passage

log = logging.getLogger(__name__)

# Seconds between two looks at the nodes of the cluster.
_LOOK_EVERY = 2.0
# Seconds without an answer after which the cluster is said not to answer.
_SILENT = 10.0
# Seconds the actors have to end when the front has closed its end.
_END_TIMEOUT = 8.0


class Bridge:
    """Connects to the cluster, and starts a passage for each worker whose end the front passes.

    Args:
        control: the socket to the front. The front sends one byte with each end; the bridge sends its state.
        device, threads: what each worker takes; see `choose_place`.
        data: the folder of the jobs.
    """

    def __init__(self, control: socket.socket, address: str, device: str, threads: int, data: Path) -> None:
        self._control = control
        self._states = Connection(os.dup(control.fileno()), readable=False)
        self._address = address
        self._device, self._threads, self._data = device, threads, data
        self._passages: list[threading.Thread] = []
        self._told: FromBridge | None = None
        self._place = Place(0, 1)
        # When the cluster answered last, by the monotonic clock.
        self._answered = 0.0

    def run(self) -> None:
        """Serves the front until it closes its end or the cluster cannot be used."""
        try:
            connect(self._address)
            self._look()
        except ClusterError as error:
            self._tell(Unreachable(f"the Ray cluster at {self._address} {error}"))
            return
        threading.Thread(target=self._accept, daemon=True).start()
        while True:
            time.sleep(_LOOK_EVERY)
            with contextlib.suppress(ClusterError):
                self._look()

    def _look(self) -> None:
        """Tells the front how many workers have a place."""
        nodes = living_nodes()
        self._answered = time.monotonic()
        self._place = place = choose_place(self._device, self._threads, nodes)
        self._tell(Connected(sum(place.number_on(node) for node in nodes)))

    def _tell(self, state: FromBridge) -> None:
        if state != self._told:
            self._told = state
            with contextlib.suppress(OSError):
                self._states.send(state)

    def _delay(self) -> str:
        """Returns why a worker has no place yet."""
        if time.monotonic() - self._answered > _SILENT:
            return f"the Ray cluster at {self._address} does not answer"
        return f"no node of the Ray cluster has room for one more worker, which needs {self._place.text}"

    def _accept(self) -> None:
        """Starts a passage for each end that the front passes; ends this process when the front closes the control."""
        while True:
            try:
                data, ends, _, _ = socket.recv_fds(self._control, 1, 1)
            except OSError:
                break
            if not data:
                break
            passage = Passage(Connection(ends[0]), self._place, self._data, self._delay)
            self._passages.append(thread := threading.Thread(target=passage.run, daemon=True))
            thread.start()
        # The front has closed the ends of the workers, too.
        deadline = time.monotonic() + _END_TIMEOUT
        for thread in self._passages:
            thread.join(max(0.0, deadline - time.monotonic()))
        # Ray ends the remaining actors when their driver is gone.
        os._exit(0)


def main() -> None:
    """Runs the bridge."""
    parser = argparse.ArgumentParser(description="Connects a Gramophone server to a Ray cluster; the server starts it.")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--log-format", choices=("text", "json"), required=True)
    args = parser.parse_args()
    configure(args.log_format, "warning")
    control = socket.socket(fileno=args.fd)
    Bridge(control, args.address, args.device, args.threads, args.data).run()


if __name__ == "__main__":
    main()
