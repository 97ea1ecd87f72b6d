"""Runs jobs as a worker does, without a server or a worker process. One thread is fastest for small jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from gramophone.options import JobKind
from gramophone.requests import estimate_request
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.prepared import FinishedPicture, PreparedJob
from gramophone_server.worker.targets import Targets
from tests.harness import png
from tests.requests import read_job


def prepare(kind: JobKind = "transfer", *, model: str = BUILTIN_MODEL, size: int = 32, **options: Any) -> PreparedJob:
    """Prepares a job with generated pictures; `options` are those of `estimate_request`."""
    first = options.pop("content", png(seed=1))
    pictures = [first, options.pop("styles", png(seed=2))] if kind == "transfer" else [first]
    options = {"iterations": 6, "report_every": 6, **options}
    spec = read_job(estimate_request(kind, pictures, model=model, size=size, **options), model)
    own, *others = map(ModelStore().get, spec.models)
    return PreparedJob(
        spec, own, _targets(), torch.device("cpu"),
        others={other.manifest.name: other for other in others}, tile=spec.options.tile_size or None,
    )  # fmt: skip


def paint(kind: JobKind = "transfer", **options: Any) -> FinishedPicture:
    """Prepares and runs a job, and returns its result."""
    return finished(prepare(kind, **options))


def finished(job: PreparedJob) -> FinishedPicture:
    """Runs a job to its end and returns its result."""
    with one_thread():
        for _ in job.synthesis:
            pass
        return job.finish(job.synthesis.frame())


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes in one thread: the bytes of a result depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def _targets() -> Targets:
    return Targets("cpu", 1)
