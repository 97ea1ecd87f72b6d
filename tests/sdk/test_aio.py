"""The asynchronous client against a real server; it has the same methods as the synchronous one."""

import asyncio
import inspect

import pytest

import gramophone
from gramophone import Options, aio
from tests.harness import png

SMALL: Options = {"size": 32, "iterations": 6, "report_every": 2}
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2}


def surface(cls: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in vars(cls).items()
        if callable(member) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods():
    assert surface(aio.Client) == surface(gramophone.Client)
    assert surface(aio.Job) == surface(gramophone.Job)


async def test_jobs_of_all_kinds_stream_frames_and_return_results(server):
    async with aio.Client(server.address) as client:
        for job in (
            await client.style(png(), **SMALL),
            await client.content(png(), layer="conv2_1", **SMALL),
            await client.transfer(png(), png(seed=1), **SMALL),
        ):
            frames = [frame async for frame in job]
            assert frames[-1].iterations == 6
            assert (await job.result()).image.size == (32, 32)
            assert (await job.info()).state == "succeeded"
            again = await client.job(job.id, after=1)
            assert await again.result() == await job.result()
        assert job.id in [info.id async for info in client.jobs(limit=3)]
        assert (await client.models())[0].is_default
        assert (await client.features(png(), layers=["conv1_1"]))["conv1_1"].shape == (24, 24)


async def test_two_jobs_run_in_concurrent_tasks(server):
    async with aio.Client(server.address) as client:

        async def paint(seed: int) -> bytes:
            return (await (await client.style(png(), **(SMALL | {"seed": seed}))).result()).data

        first, second = await asyncio.gather(paint(0), paint(1))
        assert first != second


async def test_a_deadline_ends_the_wait_and_cancel_ends_the_job(server):
    async with aio.Client(server.address) as client:
        job = await client.style(png(), **ENDLESS)
        with pytest.raises(gramophone.DeadlineError):
            await job.result(timeout=0.5)
        await job.cancel()
        with pytest.raises(gramophone.JobCancelledError):
            await job.result()


async def test_invalid_requests_and_unknown_jobs_are_typed_errors(server):
    async with aio.Client(server.address) as client:
        with pytest.raises(gramophone.InvalidRequestError) as caught:
            await client.style(b"hello")
        assert caught.value.violations[0].field == "styles[0].image.data"
        with pytest.raises(gramophone.NotFoundError):
            await client.job("missing")
