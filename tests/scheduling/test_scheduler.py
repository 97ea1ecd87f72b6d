"""Jobs whose executor fails. The executor here fails as scripted; tests/faults tests real failures."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gramophone_server.messages.events import EncodedPicture, Failure, Progress, Result, State
from gramophone_server.messages.pipe import Outcome, Paused, Run
from gramophone_server.messages.spec import JobSpec
from gramophone_server.scheduling.admission import StoppingError
from gramophone_server.scheduling.executor import WorkerDiedError
from gramophone_server.scheduling.scheduler import Bounds, Scheduler
from gramophone_server.storage.folder import DataFolder
from gramophone_server.storage.job import Job
from gramophone_server.storage.store import JobStore
from tests.messages.specs import make_spec
from tests.storage.stores import stored_job

RESULT = Result(EncodedPicture(b"picture", "png", 1, 1), 0.5, (), 9, "model", "{}", 1.0, 2.0)
OUT_OF_MEMORY = Failure("RESOURCE_EXHAUSTED", "The job ran out of memory.")


class Scripted:
    """An executor: each run ends with the next outcome of the script. A text waits until the run is stopped."""

    ready = True
    trouble = None
    most = 4

    def __init__(self, *script: Outcome | Exception | str) -> None:
        self.script = list(script)
        self.runs: list[Run] = []
        self._stops: dict[str, Outcome] = {}
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Does nothing."""

    async def wait_ready(self) -> None:
        """Returns at once: the executor is always ready."""

    def makes_room(self, jobs: int) -> bool:
        return jobs < self.most

    def listen(self, on_room: Callable[[], None]) -> None:
        self.on_room = on_room

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Failure:
        return Failure("UNAVAILABLE", "A scripted executor estimates nothing.")

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        self.runs.append(task)
        on_progress(Progress(1, 9, 1.0, (), 1.0, 1.0, 1.0))
        outcome = self.script.pop(0) if self.script else RESULT
        if isinstance(outcome, Exception):
            raise outcome
        if not isinstance(outcome, str):
            return outcome
        while task.job_id not in self._stops:
            await self._changed.wait()
            self._changed.clear()
        return self._stops[task.job_id]

    async def cancel(self, job_id: str) -> None:
        self._stops[job_id] = None
        self._changed.set()

    async def pause(self, job_id: str) -> None:
        self._stops[job_id] = Paused()
        self._changed.set()

    async def stop(self) -> None:
        """Does nothing."""


@asynccontextmanager
async def scheduling(
    folder: Path | None, *script: Outcome | Exception | str, **bounds: int
) -> AsyncIterator[tuple[Scheduler, Scripted]]:
    executor = Scripted(*script)
    scheduler = Scheduler([executor], JobStore(DataFolder(folder)), Bounds(**bounds))  # type: ignore[list-item]
    await scheduler.start()
    try:
        yield scheduler, executor
    finally:
        await scheduler.stop(1.0)


async def ended(job: Job) -> State:
    """Waits for the end of the job's events and returns the last state."""
    return [event.state async for event in job.watch()][-1]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.005)


async def test_a_job_is_retried_when_its_worker_dies_up_to_the_attempts(tmp_path):
    died = [WorkerDiedError("was killed by signal 9") for _ in range(3)]
    async with scheduling(tmp_path, *died[:2], attempts=3) as (scheduler, executor):
        job = await scheduler.admission.submit(make_spec())
        assert await ended(job) is State.SUCCEEDED
        assert (job.attempts, job.losses) == (3, 2)
        assert [run.squeeze for run in executor.runs] == [0, 0, 0]
    async with scheduling(tmp_path, *died, attempts=3) as (scheduler, executor):
        job = await scheduler.admission.submit(make_spec())
        assert await ended(job) is State.FAILED
        assert "was killed by signal 9" in job.outcome.message
        assert "3 times" in job.outcome.message


async def test_a_job_that_runs_out_of_memory_is_retried_with_less_memory(tmp_path):
    async with scheduling(tmp_path, *[OUT_OF_MEMORY] * 2) as (scheduler, executor):
        assert await ended(await scheduler.admission.submit(make_spec())) is State.SUCCEEDED
        assert [run.squeeze for run in executor.runs] == [0, 1, 2]
    async with scheduling(tmp_path, *[OUT_OF_MEMORY] * 9) as (scheduler, executor):
        job = await scheduler.admission.submit(make_spec())
        assert await ended(job) is State.FAILED
        assert job.outcome == OUT_OF_MEMORY
        assert [run.squeeze for run in executor.runs] == [0, 1, 2, 3]


async def test_an_interrupted_job_runs_before_queued_jobs(tmp_path):
    async with scheduling(tmp_path, WorkerDiedError("left with status 1")) as (scheduler, executor):
        jobs = [await scheduler.admission.submit(make_spec(seed=seed)) for seed in range(3)]
        for job in jobs:
            await ended(job)
        assert [run.job_id for run in executor.runs] == [jobs[0].id, jobs[0].id, jobs[1].id, jobs[2].id]


async def test_jobs_can_be_cancelled_at_each_stage(tmp_path):
    async with scheduling(tmp_path, "waits", WorkerDiedError("was killed by signal 9")) as (scheduler, executor):
        running, waiting = await scheduler.admission.submit(make_spec()), await scheduler.admission.submit(make_spec())
        await scheduler.cancel(waiting)
        assert waiting.state is State.CANCELLED
        await until(lambda: bool(executor.runs))
        await scheduler.cancel(running)
        assert await ended(running) is State.CANCELLED
        # The worker dies before it handles the cancellation: the job is not retried.
        third = await scheduler.admission.submit(make_spec())
        await until(lambda: third.state is State.RUNNING)
        await scheduler.cancel(third)
        assert await ended(third) in (State.CANCELLED, State.SUCCEEDED)


async def test_the_next_server_continues_the_jobs_of_a_stopped_server(tmp_path):
    async with scheduling(tmp_path, "waits") as (scheduler, executor):
        running, waiting = [await scheduler.admission.submit(make_spec(seed=seed)) for seed in range(2)]
        await until(lambda: bool(executor.runs))
        watcher = asyncio.create_task(ended(waiting))
        await asyncio.sleep(0)
        await scheduler.stop(5.0)
        assert await watcher is State.QUEUED
        with pytest.raises(StoppingError):
            scheduler.admission.check_room("")
    async with scheduling(tmp_path) as (scheduler, executor):
        await until(lambda: len(executor.runs) == 2)
        assert [run.job_id for run in executor.runs] == [running.id, waiting.id]
        for job_id in (running.id, waiting.id):
            assert await ended(await stored_job(scheduler.store, job_id)) is State.SUCCEEDED


async def test_a_server_without_a_data_folder_fails_its_jobs_when_it_stops():
    async with scheduling(None, "waits") as (scheduler, executor):
        running, waiting = await scheduler.admission.submit(make_spec()), await scheduler.admission.submit(make_spec())
        await until(lambda: bool(executor.runs))
        await scheduler.stop(0.0)
        for job in (running, waiting):
            assert job.state is State.FAILED
            assert "shut down" in job.outcome.message


async def test_the_first_job_replaces_the_initial_retry_time():
    async with scheduling(None) as (scheduler, _):
        assert scheduler.admission.retry_after == 10
        await ended(await scheduler.admission.submit(make_spec()))
        assert scheduler.admission.retry_after < 1


class Poisoned(Scripted):
    """An executor whose worker dies with all of its jobs as soon as the job with seed 13 and all others have begun."""

    def __init__(self, crowd: int) -> None:
        super().__init__()
        self._crowd = crowd
        self._endings: dict[int, asyncio.Future[Outcome]] = {}
        self.together: list[list[int]] = []

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        self.runs.append(task)
        seed = task.spec.options.seed
        ending = self._endings[seed] = asyncio.get_running_loop().create_future()
        self.together.append(sorted(self._endings))
        try:
            if not task.shared:
                assert len(self._endings) == 1
                if seed != 13:
                    return RESULT
            if not task.shared or len(self._endings) == self._crowd:
                for other in self._endings.values():
                    other.set_exception(WorkerDiedError("was killed by signal 9", jobs=len(self._endings)))
            return await ending
        finally:
            del self._endings[seed]


@asynccontextmanager
async def on(executor: Scripted, folder: Path, **bounds: int) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler([executor], JobStore(DataFolder(folder)), Bounds(**bounds))  # type: ignore[list-item]
    await scheduler.start()
    try:
        yield scheduler
    finally:
        await scheduler.stop(1.0)


async def test_jobs_that_need_not_be_reproducible_run_together_up_to_the_executors_limit(tmp_path):
    async with scheduling(tmp_path, *["waits"] * 6) as (scheduler, executor):
        jobs = [await scheduler.admission.submit(make_spec(seed=seed, reproducible=False)) for seed in range(6)]
        await until(lambda: len(executor.runs) == 4)
        await asyncio.sleep(0.05)
        assert [job.state for job in jobs] == [State.RUNNING] * 4 + [State.QUEUED] * 2
        assert all(run.shared for run in executor.runs)
        await scheduler.cancel(jobs[1])
        await until(lambda: len(executor.runs) == 5)
        assert [job.state for job in jobs[:5]] == [State.RUNNING, State.CANCELLED, *[State.RUNNING] * 3]


async def test_a_waiting_job_starts_when_the_executor_has_made_room(tmp_path):
    async with scheduling(tmp_path, *["waits"] * 2) as (scheduler, executor):
        executor.most = 1
        for seed in range(2):
            await scheduler.admission.submit(make_spec(seed=seed, reproducible=False))
        await until(lambda: len(executor.runs) == 1)
        await asyncio.sleep(0.05)
        assert len(executor.runs) == 1
        executor.most = 2
        executor.on_room()
        await until(lambda: len(executor.runs) == 2)


async def test_a_job_whose_own_process_dies_runs_alone_after_the_others(tmp_path):
    script: list[Any] = ["waits", WorkerDiedError("was killed by signal 9"), RESULT]
    async with scheduling(tmp_path, *script) as (scheduler, executor):
        jobs = [await scheduler.admission.submit(make_spec(seed=seed, reproducible=False)) for seed in range(2)]
        await until(lambda: jobs[1].losses == 1)
        assert (jobs[0].state, jobs[0].suspected, jobs[1].suspected) == (State.RUNNING, False, False)
        await scheduler.cancel(jobs[0])
        assert await ended(jobs[1]) is State.SUCCEEDED
        assert [run.shared for run in executor.runs] == [True, True, False]


async def test_a_reproducible_job_waits_for_the_running_jobs_and_is_not_overtaken(tmp_path):
    async with scheduling(tmp_path, *["waits"] * 3) as (scheduler, executor):
        first = [await scheduler.admission.submit(make_spec(reproducible=False)) for _ in range(2)]
        await until(lambda: len(executor.runs) == 2)
        alone = await scheduler.admission.submit(make_spec())
        behind = await scheduler.admission.submit(make_spec(reproducible=False))
        await scheduler.cancel(first[0])
        await ended(first[0])
        await asyncio.sleep(0.05)
        assert [job.state for job in (alone, behind)] == [State.QUEUED] * 2
        await scheduler.cancel(first[1])
        await until(lambda: alone.state is State.RUNNING)
        await asyncio.sleep(0.05)
        assert behind.state is State.QUEUED
        assert not executor.runs[2].shared
        await scheduler.cancel(alone)
        assert await ended(behind) is State.SUCCEEDED


async def test_after_a_death_the_jobs_run_alone_so_that_only_the_job_that_kills_workers_fails(tmp_path):
    executor = Poisoned(crowd=3)
    async with on(executor, tmp_path, attempts=2) as scheduler:
        jobs = [await scheduler.admission.submit(make_spec(seed=seed, reproducible=False)) for seed in (1, 13, 2)]
        assert [await ended(job) for job in jobs] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
        assert "2 times" in jobs[1].outcome.message
        assert [job.losses for job in jobs] == [0, 2, 0]
        assert executor.together[:3] == [[1], [1, 13], [1, 2, 13]]
        assert all(len(seeds) == 1 for seeds in executor.together[3:])


async def test_a_shared_job_that_runs_out_of_memory_is_retried_alone(tmp_path):
    async with scheduling(tmp_path, OUT_OF_MEMORY) as (scheduler, executor):
        job = await scheduler.admission.submit(make_spec(reproducible=False))
        assert await ended(job) is State.SUCCEEDED
        assert [(run.shared, run.squeeze) for run in executor.runs] == [(True, 0), (False, 1)]


async def test_a_job_shares_a_device_only_if_no_other_is_idle(tmp_path):
    executors = [Scripted(*["waits"] * 4), Scripted(*["waits"] * 4)]
    scheduler = Scheduler(executors, JobStore(DataFolder(tmp_path)))  # type: ignore[arg-type]
    await scheduler.start()
    try:
        jobs = [await scheduler.admission.submit(make_spec(reproducible=False)) for _ in range(4)]
        await until(lambda: all(job.state is State.RUNNING for job in jobs))
        # The first two jobs run on different devices.
        assert {executor.runs[0].job_id for executor in executors} == {job.id for job in jobs[:2]}
    finally:
        await scheduler.stop(1.0)
