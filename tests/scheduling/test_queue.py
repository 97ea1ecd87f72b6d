"""The order in which the queue returns jobs."""

from gramophone_server.scheduling.queue import FairQueue
from gramophone_server.storage.job import Job


def make(number: int, owner: str = "", priority: int = 0, attempts: int = 0) -> Job:
    job = Job(f"{number:04}", None, owner=owner, priority=priority)  # type: ignore[arg-type]
    job.attempts = attempts
    return job


def drain(queue: FairQueue, seconds: float = 0.0) -> list[str]:
    """Empties the queue and returns the ids in order; charges each job `seconds`."""
    ids = []
    while (job := queue.pop()) is not None:
        ids.append(job.id)
        queue.charge(job.owner, seconds)
    return ids


def filled(*jobs: Job) -> FairQueue:
    queue = FairQueue()
    for job in jobs:
        queue.push(job)
    return queue


def test_older_jobs_come_first():
    assert drain(filled(*map(make, (3, 1, 2)))) == ["0001", "0002", "0003"]


def test_interrupted_jobs_come_first_then_priority_then_age():
    queue = filled(make(1), make(2, priority=5), make(3, priority=-1, attempts=1), make(4, priority=5))
    assert drain(queue) == ["0003", "0002", "0004", "0001"]


def test_a_client_with_many_jobs_does_not_delay_another_client():
    flood = [make(n, "loud") for n in range(1, 51)]
    queue = filled(*flood, make(99, "quiet"))
    order = drain(queue, seconds=10)
    assert order.index("0099") <= 1
    # A priority orders only the jobs of the same client.
    queue = filled(*(make(n, "loud", priority=10) for n in range(1, 51)), make(99, "quiet", priority=-10))
    assert drain(queue, seconds=10).index("0099") <= 1


def test_clients_get_equal_time_and_not_equal_numbers_of_jobs():
    queue = filled(*(make(n, "short") for n in range(1, 101)), *(make(n, "long") for n in range(101, 201)))
    used = {"short": 0.0, "long": 0.0}
    for _ in range(40):
        job = queue.pop()
        assert job is not None
        seconds = 1.0 if job.owner == "short" else 9.0
        used[job.owner] += seconds
        queue.charge(job.owner, seconds)
    assert abs(used["short"] - used["long"]) <= 10


def test_time_used_long_ago_does_not_count():
    queue = FairQueue()
    queue.charge("heavy", 600)
    queue.charge("other", 6000)
    queue.push(make(1, "heavy"))
    queue.push(make(2, "fresh"))
    queue.charge("heavy", 1)
    assert drain(queue) == ["0002", "0001"]
    assert queue._used["heavy"] < 10


def test_counting_and_removing_jobs():
    first, second = make(1, "a"), make(2, "b")
    queue = filled(first, second)
    assert (len(queue), queue.count("a"), queue.count("c")) == (2, 1, 0)
    assert first in queue
    queue.remove(first)
    assert first not in queue
    assert list(queue) == [second]
    assert drain(queue) == ["0002"]


def test_a_client_at_its_limit_of_running_jobs_is_skipped():
    queue = FairQueue(max_running=2)
    jobs = [make(n, "loud") for n in range(1, 6)]
    for job in (*jobs, make(9, "quiet")):
        queue.push(job)
    assert drain(queue) == ["0001", "0002", "0009"]
    assert queue.pop() is None and len(queue) == 3
    queue.done(jobs[0])
    assert drain(queue) == ["0003"]


def test_no_job_overtakes_a_next_job_that_is_not_accepted():
    queue = FairQueue()
    jobs = [make(n, "one") for n in range(1, 4)]
    for job in jobs:
        queue.push(job)
    assert queue.pop(lambda job: job is not jobs[0]) is None
    assert len(queue) == 3
    assert queue.pop(lambda job: job is jobs[0]) is jobs[0]
