"""The processes of a device: when they start and stop, and how they share the threads and the memory.

The processes here are scripted; tests/faults/test_shared_jobs.py tests real ones.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gramophone_server.messages.events import Progress
from gramophone_server.messages.pipe import Outcome, RoomRequest, Run, Share, WorkerConfig
from gramophone_server.scheduling import device as module
from gramophone_server.scheduling.device import DeviceExecutor
from gramophone_server.scheduling.executor import WorkerDiedError
from gramophone_server.scheduling.link import Launcher, LocalLauncher
from gramophone_server.settings import ObservabilitySettings, WorkerSettings
from tests.messages.specs import make_spec


class Scripted:
    """A process on a CPU with four threads. It needs 100 bytes, and its device has 1000."""

    everyone: list["Scripted"]
    device = "cpu"

    def __init__(
        self,
        config: WorkerConfig,
        changed: Callable[[], None],
        admits: Callable[[RoomRequest], bool],
        launcher: Launcher,
    ) -> None:
        self.changed, self.admits = changed, admits
        self.threads, self.idle, self.available, self.resident, self.restarts = 4, 100, 1000, 100, 0
        self.ready = self.stopped = False
        self.shares: list[Share | str] = []
        self.stops: list[str] = []
        self.endings: dict[str, asyncio.Future[Outcome]] = {}
        self.everyone.append(self)
        self.pid = len(self.everyone)
        self.may_stop = asyncio.Event()
        self.may_stop.set()

    async def start(self) -> None:
        """Does nothing: the test opens the process."""

    def open(self) -> None:
        self.ready = True
        self.changed()

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        self.shares.append(task.job_id)
        ending = self.endings[task.job_id] = asyncio.get_running_loop().create_future()
        return await ending

    def share(self, share: Share) -> None:
        self.shares.append(share)

    async def cancel(self, job_id: str) -> None:
        self.stops.append(job_id)

    async def stop(self) -> None:
        self.stopped = True
        await self.may_stop.wait()


@pytest.fixture
def everyone(monkeypatch) -> list[Scripted]:
    Scripted.everyone = []
    monkeypatch.setattr(module, "ProcessExecutor", Scripted)
    return Scripted.everyone


def opened(everyone: list[Scripted], *, device: str = "cpu", **settings: Any) -> tuple[DeviceExecutor, list[str]]:
    """Returns an executor whose first process is ready, and the list to which it adds when it may have room."""
    executor = DeviceExecutor(WorkerConfig(device, WorkerSettings(**settings), None, ObservabilitySettings()))
    heard: list[str] = []
    executor.listen(lambda: heard.append("room"))
    everyone[0].device = device
    everyone[0].open()
    heard.clear()
    return executor, heard


def begin(executor: DeviceExecutor, name: str, *, shared: bool = True) -> asyncio.Task[Outcome]:
    task = Run(name, make_spec(), Path("blobs"), Path("checkpoint"), shared=shared)
    return asyncio.create_task(executor.run(task, lambda progress: None))


async def end(process: Scripted, name: str, task: asyncio.Task[Outcome]) -> None:
    process.endings.pop(name).set_result(None)
    await task


def last_shares(everyone: list[Scripted]) -> list[Share | str]:
    return [process.shares[-1] for process in everyone]


async def test_a_further_process_is_started_for_a_job_that_finds_none_free(everyone):
    executor, heard = opened(everyone)
    assert executor.makes_room(0)
    assert len(everyone) == 1
    assert not executor.makes_room(1)
    assert len(everyone) == 2
    # While it starts, no other is started.
    assert not executor.makes_room(1)
    assert len(everyone) == 2
    everyone[1].open()
    assert heard
    assert executor.makes_room(1)
    assert not executor.makes_room(2)
    assert len(everyone) == 3


@pytest.mark.parametrize(("settings", "most"), [({"jobs_per_worker": 2}, 2), ({"jobs_per_worker": 9}, 4)])
async def test_there_are_no_more_processes_than_threads_and_jobs_per_worker(everyone, settings, most):
    executor, _ = opened(everyone, **settings)
    for jobs in range(9):
        executor.makes_room(jobs)
        everyone[-1].open()
    assert len(everyone) == most
    assert not executor.makes_room(most)


async def test_on_a_gpu_jobs_share_the_first_process(everyone):
    executor, _ = opened(everyone, device="cuda:0", jobs_per_worker=3)
    tasks = [begin(executor, name) for name in "abc"]
    await asyncio.sleep(0)
    assert [executor.makes_room(jobs) for jobs in range(4)] == [True, True, True, False]
    assert [*everyone[0].endings] == ["a", "b", "c"]
    assert len(everyone) == 1
    for name, task in zip("abc", tasks, strict=True):
        await end(everyone[0], name, task)


async def test_shared_jobs_divide_the_threads_and_the_last_one_gets_all(everyone):
    executor, _ = opened(everyone)
    for jobs in (1, 2):
        executor.makes_room(jobs)
        everyone[-1].open()
    first = begin(executor, "a")
    await asyncio.sleep(0)
    assert everyone[0].shares[-2:] == [Share(0, (2, 3)), "a"]
    second, third = begin(executor, "b"), begin(executor, "c")
    await asyncio.sleep(0)
    assert [process.endings.keys() for process in everyone] == [{"a"}, {"b"}, {"c"}]
    assert everyone[2].shares[-2:] == [Share(1, (1, 2)), "c"]
    assert last_shares(everyone)[:2] == [Share(2, (2, 3)), Share(1, (1, 3))]
    await end(everyone[0], "a", first)
    assert last_shares(everyone) == [Share(0, (2, 3)), Share(2, (1, 3)), Share(2, (1, 2))]
    await end(everyone[2], "c", third)
    assert last_shares(everyone) == [Share(0, (2, 3)), Share(0, (1, 3)), Share(0, (1, 2))]
    await end(everyone[1], "b", second)


async def test_a_job_that_runs_alone_runs_in_the_first_process(everyone):
    executor, _ = opened(everyone)
    executor.makes_room(1)
    everyone[1].open()
    first, second = begin(executor, "a"), begin(executor, "b")
    await asyncio.sleep(0)
    await end(everyone[0], "a", first)
    await end(everyone[1], "b", second)
    alone = begin(executor, "alone", shared=False)
    await asyncio.sleep(0)
    assert everyone[0].shares[-2:] == [Share(0, (2,)), "alone"]
    await end(everyone[0], "alone", alone)


async def test_a_job_without_a_free_process_can_be_tried_again(everyone):
    executor, _ = opened(everyone)
    first = begin(executor, "a")
    await asyncio.sleep(0)
    with pytest.raises(WorkerDiedError) as raised:
        await begin(executor, "b")
    assert not raised.value.begun
    await end(everyone[0], "a", first)


async def test_a_cancellation_reaches_the_process_of_the_job_and_all_if_it_has_none_yet(everyone):
    executor, _ = opened(everyone)
    executor.makes_room(1)
    everyone[1].open()
    first, second = begin(executor, "a"), begin(executor, "b")
    await asyncio.sleep(0)
    await executor.cancel("b")
    await executor.cancel("later")
    assert [process.stops for process in everyone] == [["later"], ["b", "later"]]
    await end(everyone[0], "a", first)
    await end(everyone[1], "b", second)


async def test_further_processes_end_when_they_were_idle_and_the_first_one_stays(everyone, monkeypatch):
    monkeypatch.setattr(module, "_IDLE_TIMEOUT", 0.05)
    executor, _ = opened(everyone)
    executor.makes_room(1)
    everyone[1].open()
    first, second = begin(executor, "a"), begin(executor, "b")
    await asyncio.sleep(0.2)
    assert not everyone[1].stopped
    await end(everyone[1], "b", second)
    await end(everyone[0], "a", first)
    everyone[1].restarts = 2
    await asyncio.sleep(0.2)
    assert [process.stopped for process in everyone] == [False, True]
    assert everyone[0].shares[-1] == Share(0, ())
    assert (executor.resident, executor.restarts) == (100, 2)


async def test_no_process_is_started_without_memory_for_it_and_for_a_job(everyone):
    executor, _ = opened(everyone)
    first = begin(executor, "a")
    await asyncio.sleep(0)
    assert everyone[0].admits(RoomRequest("a", 401, 900))
    assert not executor.makes_room(1)
    assert len(everyone) == 1
    everyone[0].available = 1002
    assert not executor.makes_room(1)
    assert len(everyone) == 2
    await end(everyone[0], "a", first)


async def test_it_is_checked_again_whether_there_is_memory_for_a_process(everyone, monkeypatch):
    monkeypatch.setattr(module, "_RETRY", 0.02)
    executor, heard = opened(everyone)
    everyone[0].available = 150
    assert [executor.makes_room(1) for _ in range(3)] == [False] * 3
    await asyncio.sleep(0.1)
    assert (len(everyone), heard) == (1, ["room"])
    everyone[0].available = 200
    assert not executor.makes_room(1)
    assert len(everyone) == 2


async def test_a_job_that_lacks_memory_gets_that_of_idle_processes_after_they_have_ended(everyone):
    executor, _ = opened(everyone)
    executor.makes_room(1)
    everyone[1].open()
    alone = begin(executor, "alone", shared=False)
    await asyncio.sleep(0)
    everyone[1].may_stop.clear()
    assert not everyone[0].admits(RoomRequest("alone", 850, 800))
    await asyncio.sleep(0)
    assert everyone[1].stopped
    assert not everyone[0].admits(RoomRequest("alone", 850, 800))
    everyone[1].may_stop.set()
    await asyncio.sleep(0.01)
    assert everyone[0].admits(RoomRequest("alone", 850, 900))
    await end(everyone[0], "alone", alone)


async def test_a_job_waits_in_its_process_until_the_memory_of_another_is_free(everyone):
    executor, _ = opened(everyone)
    executor.makes_room(1)
    everyone[1].open()
    first, second = begin(executor, "a"), begin(executor, "b")
    await asyncio.sleep(0)
    assert everyone[0].admits(RoomRequest("a", 500, 800))
    assert not everyone[1].admits(RoomRequest("b", 500, 800))
    await end(everyone[0], "a", first)
    assert everyone[1].admits(RoomRequest("b", 500, 800))
    assert not everyone[1].stopped
    await end(everyone[1], "b", second)


async def test_all_processes_are_stopped_with_the_executor(everyone):
    executor, _ = opened(everyone)
    executor.makes_room(1)
    await executor.stop()
    assert [process.stopped for process in everyone] == [True, True]


async def test_a_device_of_one_process_runs_one_job_at_a_time(everyone):
    launcher = LocalLauncher()
    launcher.several = False
    config = WorkerConfig("cpu", WorkerSettings(), None, ObservabilitySettings())
    executor = DeviceExecutor(config, launcher=launcher)
    everyone[0].open()
    assert executor.makes_room(0)
    assert not executor.makes_room(1)
    assert len(everyone) == 1
