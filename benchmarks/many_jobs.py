"""The calls of a server whose store has many ended jobs, compared with one whose store has few."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gramophone.v1 import job_service_pb2
from gramophone.v1.job_pb2 import JobState as State
from gramophone_server.storage.database import jobs, open_engine
from tests.harness import ServerProcess, events, style_request
from tests.postgres import Postgres

from .ended_jobs import fill
from .inputs import UnavailableError

JOBS, CALLS, STARTS, FEW = 100_000, 300, 5, 60
UNFINISHED = [State.JOB_STATE_QUEUED, State.JOB_STATE_RUNNING]


def measure() -> dict:
    """Measures 99th percentiles on SQLite and PostgreSQL."""
    rows = [*_rows("SQLite", None)]
    with _postgres() as server:
        rows += _rows("PostgreSQL", server)
    how = (
        f"Two servers with one CPU worker each, the store of one with {FEW} ended jobs, of the other with {JOBS:,}: "
        f"copies of the rows of real jobs by 20 owners over 20 days, with files. {CALLS} gRPC calls of each kind, in "
        f"turn at both servers; {STARTS} starts of each."
    )
    return {"title": f"A store with {JOBS:,} ended jobs", "how": how, "rows": rows}


@contextlib.contextmanager
def _postgres() -> Iterator[Postgres]:
    try:
        server = Postgres(durable=True)
    except BaseException as error:  # pytest's Skipped is no Exception.
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UnavailableError(str(error)) from None
    with server:
        yield server


def _rows(name: str, postgres: Postgres | None) -> Iterator[dict[str, str]]:
    """Yields the rows of one kind of database."""
    with tempfile.TemporaryDirectory() as temporary:
        few, many = (_Store(Path(temporary, what), postgres) for what in ("few", "many"))
        for store in (few, many):
            with store.serve() as server:
                _paint(server)
        fill(many.url, many.folder, JOBS)
        starts: dict[_Store, list[float]] = {few: [], many: []}
        for _ in range(STARTS + 1):  # The first reads the files from disk.
            for store in (few, many):
                begun = time.perf_counter()
                with store.serve():
                    starts[store].append(time.perf_counter() - begun)
        with few.serve() as one, many.serve() as other:
            times = _alternate(_Calls(one, few.ids()), _Calls(other, many.ids()))
        for what, (short, long) in times.items():
            yield _row(f"{name}: {what}", short, long)
        yield _row(f"{name}: start of the server", starts[few][1:], starts[many][1:], "≤ 1.5×")


def _row(what: str, few: list[float], many: list[float], bar: str = "≤ 2×") -> dict[str, str]:
    shown = [f"{1e3 * statistics.median(times):.1f} / {1e3 * _p99(times):.1f} ms" for times in (few, many)]
    ratios = f"{statistics.median(many) / statistics.median(few):.2f} / {_p99(many) / _p99(few):.2f}"
    return {"what": what, "few jobs: median / p99": shown[0], "many": shown[1], "ratios": ratios, "bar": bar}


def _p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * (len(times) - 1))]


@dataclass(eq=False)
class _Store:
    """A data folder with its database."""

    folder: Path
    postgres: Postgres | None
    url: str | sa.URL = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        file = sa.URL.create("sqlite", database=str(self.folder / "jobs.sqlite"))
        self.url = file if self.postgres is None else self.postgres.make()

    def serve(self) -> ServerProcess:
        arguments = () if self.postgres is None else ("--database", str(self.url))
        return ServerProcess("--data", str(self.folder), "--device", "cpu", "--log-level", "warning", *arguments)

    def ids(self) -> list[str]:
        """Returns the ids of the jobs, in order."""
        engine = open_engine(self.url)
        with engine.connect() as connection:
            found: list[str] = list(connection.execute(sa.select(jobs.c.id).order_by(jobs.c.id)).scalars())
        engine.dispose()
        return found


def _paint(server: ServerProcess) -> None:
    """Runs the jobs that are copied; every tenth is canceled."""
    for seed in range(FEW):
        is_canceled = seed % 10 == 0
        request = style_request(seed, iterations=1_000_000 if is_canceled else 8)
        for event in events(server.style.ReconstructStyle(request)):
            if is_canceled and event.HasField("progress"):
                server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=event.job_id))


def _alternate(few: "_Calls", many: "_Calls") -> dict[str, tuple[list[float], list[float]]]:
    """Returns the seconds of each kind of call at both servers."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for number in range(CALLS + 5):
        for side, calls in enumerate((few, many)):
            for what, seconds in calls.all(number):
                if number >= 5:  # The first calls open the connection and start the worker.
                    found.setdefault(what, ([], []))[side].append(seconds)
    return found


class _Calls:
    """Calls of one server."""

    def __init__(self, server: ServerProcess, ids: list[str]) -> None:
        self._server, self._jobs, self._ids = server, server.jobs, ids

    def all(self, number: int) -> Iterator[tuple[str, float]]:
        """Yields each kind of call with its seconds."""
        middle, ended = self._ids[len(self._ids) // 2], self._ids[number * 7919 % len(self._ids)]
        service = self._jobs
        yield "submit, until the job is stored", _timed(lambda: self._submit(number))
        watch = job_service_pb2.WatchJobRequest(job_id=self._new)
        yield "watch a new job, first event", _timed(lambda: next(service.WatchJob(watch)))
        list(self._stream)
        yield "list the latest", _timed(lambda: service.ListJobs(_list()))
        yield "list those that succeeded", _timed(lambda: service.ListJobs(_list(states=[State.JOB_STATE_SUCCEEDED])))
        yield "list those that have not ended", _timed(lambda: service.ListJobs(_list(states=UNFINISHED)))
        canceled = _list(6, states=[State.JOB_STATE_CANCELLED])
        yield "list those canceled", _timed(lambda: service.ListJobs(canceled))
        yield "list, a page in the middle", _timed(lambda: service.ListJobs(_list(page_token=middle)))
        get = job_service_pb2.GetJobRequest(job_id=ended)
        yield "get an ended job", _timed(lambda: service.GetJob(get))
        again = job_service_pb2.WatchJobRequest(job_id=ended)
        yield "watch an ended job, first event", _timed(lambda: next(service.WatchJob(again)))

    def _submit(self, number: int) -> None:
        request = style_request(number % FEW, seed=number, iterations=1)
        self._stream = events(self._server.style.ReconstructStyle(request))
        self._new = next(self._stream).job_id


def _list(size: int = 20, **fields: Any) -> job_service_pb2.ListJobsRequest:
    return job_service_pb2.ListJobsRequest(page_size=size, **fields)


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
