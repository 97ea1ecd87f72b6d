"""The admission of submissions, with a real store."""

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
    """Yields (an admission, the list of jobs that it has admitted)."""
    store, queue, admitted = JobStore(DataFolder(folder)), FairQueue(), []

    def admit(job: Job) -> None:
        admitted.append(job)
        queue.push(job)

    await store.open()
    try:
        yield Admission(store, queue, most, most_of_one, admit), admitted
    finally:
        await store.close()


async def test_concurrent_submissions_with_one_request_id_make_one_job(tmp_path):
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
        # The request id is still known after a restart.
        assert (await admission.submit(make_spec(), named)).id == jobs[0].id
        assert admitted == []


async def test_submissions_without_a_request_id_make_separate_jobs(tmp_path):
    async with admitting(tmp_path) as (admission, admitted):
        assert await admission.known(Submission()) is None
        await asyncio.gather(*(admission.submit(make_spec()) for _ in range(3)))
        assert len({job.id for job in admitted}) == 3


async def test_the_queue_is_limited_in_total_and_for_each_client(tmp_path):
    async with admitting(tmp_path, most=3, most_of_one=2) as (admission, admitted):
        admission.retry_after = 7.0
        results = await asyncio.gather(
            *(admission.submit(make_spec(), Submission(owner)) for owner in "aaab"), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, QueueFullError)]
        assert len(refused) == 1
        assert "of your jobs" in str(refused[0])
        with pytest.raises(QueueFullError, match="3 jobs") as full:
            await admission.submit(make_spec(), Submission("c"))
        assert full.value.retry_after == 7.0
        assert [job.owner for job in admitted] == ["a", "a", "b"]


async def test_a_closed_admission_refuses_new_jobs_but_returns_known_ones(tmp_path):
    async with admitting(tmp_path) as (admission, _):
        named = Submission("me", "name", "hash")
        job = await admission.submit(make_spec(), named)
        admission.open = False
        with pytest.raises(StoppingError):
            await admission.submit(make_spec())
        assert (await admission.submit(make_spec(), named)).id == job.id
