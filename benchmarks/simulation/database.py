"""Measures the transactions of a front on a real PostgreSQL: the database's computing time, and the time in all."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa

from gramophone_server.blobs import BlobStore
from gramophone_server.messages.events import EncodedPicture, LossTerm, Progress, Result
from gramophone_server.messages.spec import Picture, StylePicture
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.storage.archive import Archive
from gramophone_server.storage.cluster.leases import Leases, QueueRules
from gramophone_server.storage.cluster.membership import Membership, join, renew
from gramophone_server.storage.database import migrate, open_engine
from gramophone_server.storage.folder import DataFolder
from gramophone_server.storage.job import Job
from gramophone_server.storage.ownership import claim
from gramophone_server.storage.quotas import Retention
from tests.messages.specs import make_spec
from tests.postgres import Postgres

from .cluster import Transactions

JOBS = 200
# Events of one write of progress: with one running job, and with eight.
_FEW, _MANY = 1, 8
_RULES = QueueRules(running_per_client=None, half_life=600.0)

T = TypeVar("T")
R = TypeVar("R")


class Front:
    """One front of a cluster of its own, on a database and a folder.

    Args:
        url: URL of an empty database.
        folder: an empty folder.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = open_engine(url)
        migrate(self.engine)
        data = DataFolder(folder, shared=True)
        files = BlobStore(data.blobs)
        files.make()
        self.archive = Archive(self.engine, files, Retention())
        mine = claim(self.engine, data, in_folder=False, joins=True)
        self.member: Membership = join(self.engine, mine, data, 10.0)
        self.archive.transactions.rights = self.member
        self.leases = Leases(self.archive)

    def submit(self, number: int) -> Job:
        """Stores a new job with a picture of its own."""
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8).tobytes()
        spec = make_spec(styles=(StylePicture(Picture(64, 64, pixels, ""), 1.0),))
        job = Job(f"{number:014x}{number:016x}", spec.without_pixels(), owner=f"client {number % 8}")
        self.archive.add(job, spec, job.queue(), None, partial(self.leases.admit, job, lambda waiting: None))
        return job

    def claim(self, _: Job) -> Job:
        """Leases the next job."""
        job = self.leases.take(self.member.token, _RULES, (), 1.0, None)
        assert job is not None
        return job

    def start(self, job: Job) -> None:
        """Stores that a job has started."""
        self.archive.record([(job, job.start())])

    def write(self, jobs: list[Job]) -> None:
        """Stores an event of each of these jobs."""
        self.archive.record([(job, event) for job in jobs if (event := job.report(_progress())) is not None])

    def read(self, job: Job) -> None:
        """Reads the latest event of a job, as a front that another one has notified."""
        assert len(self.archive.events(job.id, job.sequence - 1, 256)) == 1

    def end(self, job: Job) -> None:
        """Stores the end of a job, with a result of 64 KiB."""
        data = job.id.encode() * 2048
        result = Result(EncodedPicture(data, "png", 512, 512), 0.5, _TERMS, 300, "model", "{}", 1.0, 2.0)
        self.archive.end(job, job.ending(result))

    def settle(self, job: Job) -> None:
        """Corrects the device time that was charged when the job was leased."""
        self.leases.settle(job.owner, 1.0, _RULES)

    def renew(self, _: int) -> None:
        """Renews the leases."""
        assert renew(self.engine, self.member)


_TERMS = tuple(LossTerm("style", layer, 0.5, 1.0) for layer in STYLE_LAYERS)


def _progress() -> Progress:
    return Progress(100, 300, 0.5, _TERMS, 10.0, 20.0, 10.0, None)


class Measurement:
    """Times transactions on a PostgreSQL server.

    Attributes:
        begin_to_end: time of each kind of transaction, in seconds: that of the fastest tenth, because other programs
            of the machine only make transactions slower.
        computing: computing time of the server for each, in seconds.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.begin_to_end: dict[str, float] = {}
        self.computing: dict[str, float] = {}

    def of(self, name: str, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Runs a transaction for each item, one after the other; returns their results."""
        seconds, results = [], []
        before = self._used()
        for item in items:
            begun = time.perf_counter()
            results.append(work(item))
            seconds.append(time.perf_counter() - begun)
        self.computing[name] = (self._used() - before) / len(seconds)
        self.begin_to_end[name] = float(np.quantile(seconds, 0.1))
        return results

    def _used(self) -> float:
        """Returns the seconds of computing of all processes of the server that are alive."""
        nanoseconds = (Path(f"/proc/{process.pid}/schedstat").read_text() for process in self._postgres.processes())
        return sum(int(line.split()[0]) for line in nanoseconds) / 1e9


def measure(jobs: int = JOBS) -> dict[str, Any]:
    """Measures all transactions of a cluster, on a server that writes each commit to the disk.

    Args:
        jobs: number of measured jobs, a multiple of eight; all wait before the first one is claimed.

    Returns:
        the seconds of each transaction as "computing" of the server and as "begin_to_end", and the server's version.
    """
    with Postgres(durable=True) as postgres, _front(postgres) as front:
        found = Measurement(postgres)
        for number in range(20):
            front.submit(number)  # opens the connections
        submitted = found.of("submit", front.submit, range(1000, 1000 + jobs))
        claimed = found.of("claim", front.claim, submitted)
        found.of("start", front.start, claimed)
        found.of("write, 1 event", front.write, [[job] for job in claimed])
        found.of("read", front.read, claimed)
        groups = [claimed[first : first + _MANY] for first in range(0, jobs, _MANY)] * 4
        found.of("write, 8 events", front.write, groups)
        found.of("end", front.end, claimed)
        found.of("settle", front.settle, claimed)
        found.of("renew", front.renew, range(jobs))
        return {"computing": found.computing, "begin_to_end": found.begin_to_end, "postgresql": version(postgres)}


def costs(measured: dict[str, dict[str, float]]) -> Transactions:
    """Returns the costs for the simulation from what `measure` has returned.

    The latency is that of the smallest transaction: it waits for the disk, the driver and the loopback interface.
    """
    computing, begin_to_end = measured["computing"], measured["begin_to_end"]
    few, many = computing["write, 1 event"], computing["write, 8 events"]
    event = max(0.0, (many - few) / (_MANY - _FEW))
    return Transactions(
        **{name: computing[name] for name in ("submit", "claim", "start", "read", "end", "settle", "renew")},
        flush=max(0.0, few - event), event=event, latency=begin_to_end["renew"] - computing["renew"],
    )  # fmt: skip


@contextmanager
def _front(postgres: Postgres) -> Iterator[Front]:
    with tempfile.TemporaryDirectory() as folder:
        front = Front(postgres.make(), Path(folder, "data"))
        try:
            yield front
        finally:
            front.engine.dispose()


def version(postgres: Postgres) -> str:
    """Returns the version of a PostgreSQL server."""
    engine = sa.create_engine(postgres.url)
    with engine.connect() as connection:
        return str(connection.exec_driver_sql("SHOW server_version").scalar())
