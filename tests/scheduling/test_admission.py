"""Who is let in, with a real store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gramophone_server.scheduling.admission import (
    Admission,
    QueueFullError,
    RequestIdReusedError,
    StoppingError,
    Submission,
)
from gramophone_server.scheduling.queue import FairQueue
from gramophone_server.storage.folder import DataFolder
from gramophone_server.storage.job import Job
from gramophone_server.storage.store import JobStore
from tests.messages.specs import make_spec


@asynccontextmanager
async def admitting(folder: Path, most: int = 64, most_of_one: int = 64) -> AsyncIterator[tuple[Admission, list[Job]]]:
    """An admission, and the jobs that it has let in."""
    store, queue, admitted = JobStore(DataFolder(folder)), FairQueue(), []

    def let_in(job: Job) -> None:
        admitted.append(job)
        queue.push(job)

    await store.open()
    try:
        yield Admission(store, queue, most, most_of_one, let_in), admitted
    finally:
        await store.close()


async def test_the_same_name_many_times_at_once_is_one_job(tmp_path):
    async with admitting(tmp_path) as (admission, admitted):
        named = Submission("me", "name", "hash")
        jobs = await asyncio.gather(*(admission.submit(make_spec(), named) for _ in range(20)))
        assert {job.id for job in jobs} == {admitted[0].id}
        assert len(admitted) == 1
        assert (await admission.submit(make_spec(), named)).id == jobs[0].id
        found = await admission.known(named)
        assert found is not None
        assert found.id == jobs[0].id
        with pytest.raises(RequestIdReusedError):
            await admission.submit(make_spec(), Submission("me", "name", "of another request"))
        other = await admission.submit(make_spec(), Submission("you", "name", "hash"))
        assert other.id != jobs[0].id
    async with admitting(tmp_path) as (admission, admitted):
        # Also after a restart.
        assert (await admission.submit(make_spec(), named)).id == jobs[0].id
        assert admitted == []


async def test_those_without_a_name_are_jobs_of_their_own(tmp_path):
    async with admitting(tmp_path) as (admission, admitted):
        assert await admission.known(Submission()) is None
        await asyncio.gather(*(admission.submit(make_spec()) for _ in range(3)))
        assert len({job.id for job in admitted}) == 3


async def test_bounds_of_all_and_of_each(tmp_path):
    async with admitting(tmp_path, most=3, most_of_one=2) as (admission, admitted):
        admission.retry_after = 7.0
        results = await asyncio.gather(
            *(admission.submit(make_spec(), Submission(owner)) for owner in "aaab"), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, QueueFullError)]
        assert len(refused) == 1
        assert "of yours" in str(refused[0])
        with pytest.raises(QueueFullError, match="3 jobs") as full:
            await admission.submit(make_spec(), Submission("c"))
        assert full.value.retry_after == 7.0
        assert [job.owner for job in admitted] == ["a", "a", "b"]


async def test_a_closed_one_lets_nobody_in_but_knows_who_is(tmp_path):
    async with admitting(tmp_path) as (admission, _):
        named = Submission("me", "name", "hash")
        job = await admission.submit(make_spec(), named)
        admission.open = False
        with pytest.raises(StoppingError):
            await admission.submit(make_spec())
        assert (await admission.submit(make_spec(), named)).id == job.id
