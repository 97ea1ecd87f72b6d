"""Which jobs share a device, and the device time that each is charged for."""

import time

import pytest

from gramophone_server.scheduling.crew import Crew, runs_alone
from gramophone_server.storage.job import Job
from tests.messages.specs import make_spec


class TwoAtATime:
    """An executor with room for two jobs; it keeps the numbers of jobs that it was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def makes_room(self, jobs: int) -> bool:
        self.asked.append(jobs)
        return jobs < 2


@pytest.fixture
def crew() -> Crew:
    return Crew(TwoAtATime())  # type: ignore[arg-type]


def make(name: str, *, reproducible: bool = False) -> Job:
    return Job(name, make_spec(reproducible=reproducible))


def test_jobs_run_alone_if_they_must_give_the_same_bytes_or_may_harm_others():
    assert runs_alone(make("a", reproducible=True))
    assert not runs_alone(make("b"))
    for mark in ("squeeze", "losses", "suspected"):
        job = make("c")
        setattr(job, mark, 1)
        assert runs_alone(job)


def test_a_crew_accepts_jobs_that_share_the_device_up_to_its_limit(crew):
    alone = make("alone", reproducible=True)
    assert crew.accepts(alone)
    crew.add(make("a"))
    assert not crew.accepts(alone)
    assert crew.accepts(make("b"))
    crew.add(make("b"))
    assert not crew.accepts(make("c"))


def test_a_crew_with_a_job_that_runs_alone_accepts_no_other(crew):
    crew.add(make("alone", reproducible=True))
    assert not crew.accepts(make("a"))


def test_an_executor_prepares_only_for_jobs_that_may_share_it(crew):
    crew.accepts(make("a"))
    crew.add(make("a"))
    crew.accepts(make("alone", reproducible=True))
    assert crew.executor.asked == []
    crew.accepts(make("b"))
    assert crew.executor.asked == [1]


def test_running_jobs_share_the_device_time_equally(crew, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    a, b = make("a"), make("b")
    crew.add(a)
    now = 110.0
    crew.add(b)
    now = 130.0
    assert crew.remove(a) == 10 + 20 / 2
    now = 135.0
    assert crew.remove(b) == 20 / 2 + 5
    now = 200.0
    crew.add(a)
    now = 201.0
    assert crew.remove(a) == 1
