"""Jobs an hour of jobs that share a device, compared with the same jobs one by one, through servers and the SDK."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gramophone
from tests.harness import ServerProcess

from .inputs import models, picture
from .time_slices import SLICE, Side

JOBS, SIZE = 8, 224


def measure() -> dict:
    """Measures the ratio for each model."""
    rows = [row(model.manifest.name) for model in models()]
    how = (
        f"{JOBS} style reconstructions of {SIZE}x{SIZE} with different seeds and otherwise default options, submitted "
        f"at once through the SDK to two servers, to one of them with `reproducible=False`. Each server runs for "
        f"{SLICE} s in turn while the other one is stopped; the seconds until its last job has ended count only these "
        "slices. The losses are those of the results together, compared with those of the same seeds one by one: all "
        "jobs on average, and the one that differs most. Bar of the average: 2 %; rounding changes the course of each "
        "job."
    )
    return {"title": "Jobs that share a device", "how": how, "rows": rows}


def row(name: str, **options: Any) -> dict[str, str]:
    """Returns the row of a model, for jobs with these options."""
    with painting(name, reproducible=True, **options) as alone, painting(name, reproducible=False, **options) as shared:
        sides = alone, shared
        try:
            for jobs in sides:
                jobs.submit()
                jobs.side().run(0.0)
            while any(not jobs.ended.is_set() for jobs in sides):
                for jobs in sides:
                    jobs.step()
        finally:
            for jobs in sides:
                jobs.side().resume()
        ratio = alone.seconds / shared.seconds
        apart = [b / a - 1 for a, b in zip(alone.losses, shared.losses, strict=True)]
    return {
        "model": name,
        "one by one": f"{alone.seconds:.1f} s",
        "together": f"{shared.seconds:.1f} s",
        "times jobs an hour": f"{ratio:.2f}",
        "bar": "≥ 1.25",
        "loss, on average": f"{100 * statistics.mean(apart):+.1f} %",
        "loss, at most": f"{100 * max(apart, key=abs):+.1f} %",
    }


@dataclass
class Jobs:
    """The jobs of one server; `seconds` is the time for which the server has run since their submission."""

    client: gramophone.Client
    server: ServerProcess
    model: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        self.seconds = 0.0
        self.losses: list[float] = []

    def submit(self) -> None:
        """Submits the jobs, and waits for them in a thread."""
        style = picture(SIZE)
        jobs = [self.client.style(style, size=SIZE, seed=seed, model=self.model, **self.options)
                for seed in range(JOBS)]  # fmt: skip

        def wait() -> None:
            self.losses = [job.result().loss for job in jobs]
            self.ended.set()

        threading.Thread(target=wait, daemon=True).start()

    def side(self) -> Side:
        """Returns the present processes of the server: it starts further workers while jobs share the device."""
        return Side([self.server.process.pid, *(worker.pid for worker in self.server.workers())])

    def step(self) -> None:
        """Lets the server run for a slice, or until its jobs have ended."""
        if self.ended.is_set():
            return
        self.side().resume()
        begun = time.perf_counter()
        self.ended.wait(SLICE)
        self.seconds += time.perf_counter() - begun
        self.side().run(0.0)


@contextlib.contextmanager
def painting(model: str, **options: Any) -> Iterator[Jobs]:
    """Starts a server that has already run a job of the model."""
    with ServerProcess("--log-level", "warning") as server, gramophone.Client(server.address) as client:
        client.style(picture(SIZE), size=SIZE, model=model, iterations=3).result()
        yield Jobs(client, server, model, options)
