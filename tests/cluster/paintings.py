"""Jobs of all kinds, painted through the SDK."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import gramophone
from tests.harness import png

_KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "style", "size": 32},
    {"kind": "content", "size": 48, "optimizer": "adam"},
    {"kind": "transfer", "size": 40},
    {"kind": "style", "size": 48, "optimizer": "adam", "preview_every": 0},
    {"kind": "content", "size": 32, "scales": 2},
    {"kind": "transfer", "size": 32, "optimizer": "adam"},
)


@dataclass(frozen=True)
class Painting:
    """One job, as the SDK submits it."""

    kind: str
    pictures: tuple[bytes, ...]
    options: dict[str, Any]

    def submit(self, client: gramophone.Client) -> gramophone.Job:
        """Submits the job."""
        job: gramophone.Job = getattr(client, self.kind)(*self.pictures, **self.options)
        return job


@dataclass(frozen=True)
class Painted:
    """What a client has of a job that has ended.

    Attributes:
        frames: the iterations of the frames that it has received.
    """

    job_id: str
    data: bytes
    frames: list[int]


def various(number: int, iterations: int) -> list[Painting]:
    """Returns jobs that differ in kind, size, optimizer, seed and length.

    Args:
        iterations: of the longest; the shortest has two thirds.
    """
    made = []
    for seed in range(number):
        options = dict(_KINDS[seed % len(_KINDS)])
        kind = options.pop("kind")
        pictures = tuple(png(seed=seed % 3 + which) for which in range(1 + (kind == "transfer")))
        length = iterations * (6 - seed % 3) // 6
        made.append(Painting(kind, pictures, {"seed": seed, "iterations": length, "report_every": 5, **options}))
    return made


def paint(client: gramophone.Client, one: Painting) -> Painted:
    """Submits a job, and follows its frames and its result as a client does.

    Raises:
        GramophoneError: the job did not succeed, or the server could not be used.
    """
    job = one.submit(client)
    frames = [frame.iteration for frame in job]
    return Painted(job.id, job.result().data, frames)


def paint_all(
    clients: Sequence[gramophone.Client], paintings: Sequence[Painting], threads: ThreadPoolExecutor
) -> list[Future[Painted]]:
    """Paints all at the same time, through the clients in turn."""
    return [threads.submit(paint, clients[number % len(clients)], one) for number, one in enumerate(paintings)]
