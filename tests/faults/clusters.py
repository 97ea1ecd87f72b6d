"""Several servers on one PostgreSQL database and one data folder, and a network between them that can be cut."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from gramophone.v1 import job_pb2, job_service_pb2
from tests.harness import ServerProcess, wait_until

from .recovery import FREQUENT_CHECKPOINTS

LEASE = 8.0


def front(folder: Path, database: str, *args: str, lease: float = LEASE) -> ServerProcess:
    """Starts one server of a cluster, and waits until its worker can take a job."""
    # A busy machine connects slowly.
    patient = sa.make_url(database).update_query_dict({"connect_timeout": "10"}).render_as_string(hide_password=False)
    cluster = ("--data", str(folder), "--database", patient, "--cluster", "--lease", str(lease))
    server = ServerProcess(*cluster, *FREQUENT_CHECKPOINTS, *args)
    wait_until(lambda: "is ready on" in server.read_log(), "the worker", timeout=120)
    return server


@contextlib.contextmanager
def two_fronts(folder: Path, database: str, *args: str) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Starts two servers of a cluster."""
    with front(folder, database, *args) as one, front(folder, database, *args) as other:
        yield one, other


def ends(database: str) -> dict[str, int]:
    """Returns the number of final events of each job in the database."""
    engine = sa.create_engine(database, poolclass=sa.NullPool)
    query = "SELECT job_id, count(*) FROM events WHERE state IN ('succeeded', 'failed', 'cancelled') GROUP BY job_id"
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql(query)}


def result_of(server: ServerProcess, job_id: str) -> bytes:
    """Waits for the end of a job, which must succeed, and returns its picture."""
    last = list(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)))[-1].event
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last.error
    return last.result.image.data


class Network:
    """Forwards connections to a server on this machine, until it is cut: then bytes wait, and no connection breaks.

    Attributes:
        port: the port to connect to.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._up = threading.Event()
        self._up.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Delivers nothing in either direction while the block runs."""
        self._up.clear()
        try:
            yield
        finally:
            self._up.set()

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *_: object) -> None:
        self._up.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        self._up.wait()
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._server)) as server:
            to = {client: server, server: client}
            while True:
                for end in select.select(list(to), [], [])[0]:
                    data = end.recv(65536)
                    self._up.wait()
                    if not data:
                        return
                    to[end].sendall(data)
