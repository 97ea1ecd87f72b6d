"""The tasks that paint, with a worker in a thread and a broker in memory, against a real server."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import gramophone
from tests.harness import png, wait_until


@pytest.fixture(scope="module")
def tasks(program: Callable[[str], ModuleType]) -> Iterator[Any]:
    """The module of tasks, with a running worker."""
    testing = pytest.importorskip("celery.contrib.testing.worker")
    module = program("celery_tasks")
    with testing.start_worker(module.app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield module
    module.client.close()


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """The paths of a content, a style and the result."""
    for seed, name in enumerate(("content.png", "style.png")):
        (tmp_path / name).write_bytes(png(seed=seed))
    return [str(tmp_path / name) for name in ("content.png", "style.png", "out.png")]


def test_a_task_paints_and_reports_its_progress(tasks: Any, pictures: list[str]) -> None:
    painting = tasks.paint.delay(*pictures, size=32, iterations=1_000_000, time_limit=5)
    wait_until(lambda: painting.state == "PROGRESS", "the first report")
    seen = painting.info
    value = painting.get(timeout=120)
    assert seen["of"] == 1_000_000 and seen["iteration"] > 0
    with Image.open(pictures[2]) as image:
        assert max(image.size) == 32
    assert value["loss"] > 0


def test_a_task_that_runs_twice_paints_once(tasks: Any, pictures: list[str]) -> None:
    """As after the death of a worker, whose task the broker delivers again."""
    jobs = []
    for _ in range(2):
        painting = tasks.paint.apply_async(pictures, {"size": 32, "iterations": 3}, task_id="task-1")
        jobs.append(painting.get(timeout=120)["job"])
        painting.forget()
    assert jobs[0] == jobs[1]


def test_a_full_server_sends_the_task_back_to_the_queue(
    tasks: Any, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    transfer = tasks.client.transfer

    def full_at_first(*given: Any, **options: Any) -> gramophone.Job:
        times.append(time.monotonic())
        if len(times) == 1:
            raise gramophone.OverloadedError("full", 0.5)
        job: gramophone.Job = transfer(*given, **options)
        return job

    monkeypatch.setattr(tasks.client, "transfer", full_at_first)
    assert tasks.paint.delay(*pictures, size=32, iterations=3).get(timeout=120)["loss"] > 0
    assert len(times) == 2 and times[1] - times[0] >= 0.5
