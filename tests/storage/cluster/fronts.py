"""Helpers for tests of clusters: several stores on one PostgreSQL database and one folder."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gramophone_server.messages.events import Event, State
from gramophone_server.scheduling.queue import HALF_LIFE
from gramophone_server.storage.cluster.leases import QueueRules
from gramophone_server.storage.cluster.store import ClusterStore
from gramophone_server.storage.folder import DataFolder
from gramophone_server.storage.ids import JobIds
from gramophone_server.storage.job import Job
from tests.storage.stores import spec_of

RULES = QueueRules(None, HALF_LIFE)
_ids = JobIds()


@asynccontextmanager
async def front(url: str, folder: Path, lease: float = 60.0) -> AsyncIterator[ClusterStore]:
    """Opens the store of one front."""
    # A busy machine may answer late; no test here is about a database that does not answer.
    store = ClusterStore(DataFolder(folder, shared=True), f"{url}?connect_timeout=30", lease=lease)
    store._access._ping_timeout = 30.0
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def fronts(url: str, folder: Path, lease: float = 60.0) -> AsyncIterator[tuple[ClusterStore, ClusterStore]]:
    """Opens the stores of two fronts."""
    async with front(url, folder, lease) as one, front(url, folder, lease) as other:
        yield one, other


async def submit(store: ClusterStore, pixels: bytes = b"abc", **fields: object) -> Job:
    """Adds a job."""
    spec = spec_of(pixels)
    job = Job(_ids.next(), spec.without_pixels(), **fields)  # type: ignore[arg-type]
    await store.add(job, spec)
    return job


async def take(store: ClusterStore, seconds: float = 1.0, rules: QueueRules = RULES) -> Job | None:
    """Leases the next job to a front."""
    return await store.take(rules, (), seconds, None)


async def start(store: ClusterStore) -> Job:
    """Leases the next job to a front, and starts it."""
    job = await take(store)
    assert job is not None
    store.record(job, job.start())
    await store.flush()
    return job


async def states(job: Job) -> list[State]:
    """Returns the states of a job's events until it ends."""
    return [event.state async for event in job.watch()]


async def event_with(job: Job, wanted: Callable[[Event], bool]) -> Event:
    """Waits up to 10 s for an event of a job."""
    async with asyncio.timeout(10):
        return await anext(event async for event in job.watch() if wanted(event))
