"""Helpers for tests of stores: jobs, results, progress, and stores that are closed after use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gramophone_server.blobs import BlobStore
from gramophone_server.messages.events import EncodedPicture, Event, Failure, LossTerm, Progress, Result
from gramophone_server.messages.spec import JobSpec, Picture, StylePicture
from gramophone_server.storage.folder import DataFolder
from gramophone_server.storage.job import Job
from gramophone_server.storage.store import JobStore
from tests import databases
from tests.messages.specs import make_spec

TERMS = (LossTerm("style", "conv1_1", 0.5, 1.0),)


def spec_of(pixels: bytes) -> JobSpec:
    """A spec with one style of these pixels."""
    return make_spec(styles=(StylePicture(Picture(1, 1, pixels, "0" * 64), 1.0),))


def result(data: bytes = b"picture") -> Result:
    return Result(EncodedPicture(data, "png", 1, 1), 0.5, TERMS, 9, "model", "{}", 1.0, 2.0)


def progress(iteration: int, preview: EncodedPicture | None = None) -> Progress:
    return Progress(iteration, 100, 1.0 / iteration, TERMS, 1.0, 0.5, 0.5, preview)


def make(number: int, **fields: Any) -> Job:
    """A job with the number as its id, and without pixels."""
    return Job(f"{number:04}", spec_of(b"abc").without_pixels(), **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(folder: Path | None, **options: Any) -> AsyncIterator[tuple[JobStore, list[Job]]]:
    """Opens a store and yields (the store, its unfinished jobs)."""
    store = JobStore(DataFolder(folder), databases.of_folder(folder), **options)  # type: ignore[arg-type]
    try:
        unfinished = await store.open()
        yield store, unfinished
    finally:
        await store.close()


async def run(store: JobStore, job: Job, reports: int, outcome: Result | Failure | None) -> None:
    """Starts a job, reports progress `reports` times, and ends it."""
    store.record(job, job.start())
    for i in range(1, reports + 1):
        store.record(job, job.report(progress(i)))
    await store.end(job, outcome)


def pixels_of(store: JobStore, job: Job) -> bytes:
    """The pixels of the job's style, read as a worker reads them."""
    return job.spec.with_pixels(BlobStore(store.folder.blobs).get).styles[0].picture.rgb


async def stored_job(store: JobStore, job_id: str) -> Job:
    """Returns a job that the store must have."""
    job = await store.get(job_id)
    assert job is not None
    return job


async def events(store: JobStore, job: Job, after: int = 0) -> list[Event]:
    """The stored events of a job after a sequence number."""
    return [event async for event in store.replay(job, after)]


def stored(folder: Path) -> set[bytes]:
    """The contents of all stored files."""
    return {path.read_bytes() for path in (folder / "blobs").glob("*/*")}
