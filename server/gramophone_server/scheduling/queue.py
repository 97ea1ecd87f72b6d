"""The queue of waiting jobs: fair between clients, by priority within one client."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from ..storage.job import Job

HALF_LIFE = 600.0
"""A client's past use is halved after this many seconds of device time of all clients."""


class JobQueue(Protocol):
    """The waiting jobs: those of one server (FairQueue), or of all fronts of a cluster (SharedQueue)."""

    def __len__(self) -> int:
        """Returns the number of waiting jobs."""
        ...

    def count(self, owner: str) -> int:
        """Returns the number of waiting jobs of a client."""
        ...

    def push(self, job: Job) -> None:
        """Adds a job, which is stored already."""
        ...

    def discard(self, job: Job) -> bool:
        """Removes a job if it waits here; returns whether it did."""
        ...

    def drain(self) -> list[Job]:
        """Removes and returns all jobs that wait here."""
        ...

    async def next(self, accepts: Callable[[Job], bool], seconds: float, running: Collection[str]) -> Job | None:
        """Removes and returns the next job, which counts as running until `done`; None if no waiting job may run.

        Args:
            accepts: returns whether the next job can run now; if not, no job overtakes it.
            seconds: device time that is charged to its client until `settle`.
            running: ids of jobs that still run here; they are left out.
        """
        ...

    async def settle(self, job: Job, seconds: float) -> None:
        """Corrects the device time that `next` charged to the client of a job."""
        ...

    def done(self, job: Job) -> None:
        """Counts a job of `next` as no longer running."""
        ...


class FairQueue:
    """The waiting jobs.

    The next job belongs to the client with the least recent device time. Of this client's jobs, interrupted jobs come
    first, then those of the highest priority, then the oldest. A client with the maximum of running jobs is skipped.

    Args:
        max_running: maximum running jobs of one client; None for no limit.
    """

    def __init__(self, max_running: int | None = None) -> None:
        self._max_running = max_running
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, list[Job]] = {}
        # Decayed seconds of device time, by client.
        self._used: dict[str, float] = {}
        # What running jobs have been charged, by id.
        self._charged: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._waiting.values())

    def __iter__(self) -> Iterator[Job]:
        for jobs in self._waiting.values():
            yield from jobs

    def __contains__(self, job: Job) -> bool:
        return job in self._waiting.get(job.owner, ())

    def count(self, owner: str) -> int:
        """Returns the number of waiting jobs of a client."""
        return len(self._waiting.get(owner, ()))

    def push(self, job: Job) -> None:
        """Adds a job."""
        self._waiting.setdefault(job.owner, []).append(job)

    def remove(self, job: Job) -> None:
        """Removes a waiting job."""
        jobs = self._waiting[job.owner]
        jobs.remove(job)
        if not jobs:
            del self._waiting[job.owner]

    def discard(self, job: Job) -> bool:
        """Removes a job if it waits; returns whether it did."""
        is_there = job in self
        if is_there:
            self.remove(job)
        return is_there

    def drain(self) -> list[Job]:
        """Removes and returns all jobs."""
        jobs = list(self)
        self._waiting.clear()
        return jobs

    async def next(self, accepts: Callable[[Job], bool], seconds: float, running: Collection[str]) -> Job | None:
        """Removes and returns the next job, and charges its client; see `JobQueue.next`. Never waits."""
        job = self.pop(accepts)
        if job is not None:
            self._charged[job.id] = seconds
            self.charge(job.owner, seconds)
        return job

    async def settle(self, job: Job, seconds: float) -> None:
        """Corrects the device time that `next` charged to the client of a job."""
        self.charge(job.owner, seconds - self._charged.pop(job.id, 0.0))

    def pop(self, accepts: Callable[[Job], bool] = lambda job: True) -> Job | None:
        """Removes and returns the next job, which counts as running until `done`; None if no waiting job may run.

        Args:
            accepts: returns whether the next job can run now; if not, no job overtakes it.
        """
        free = [name for name in self._waiting if self._may_run(name)]
        if not free:
            return None
        owner = min(free, key=lambda name: (self._used.get(name, 0.0), min(j.id for j in self._waiting[name])))
        job = min(self._waiting[owner], key=lambda job: (job.attempts == 0, -job.priority, job.id))
        if not accepts(job):
            return None
        self.remove(job)
        self._running[owner] += 1
        return job

    def done(self, job: Job) -> None:
        """Counts a job of `pop` as no longer running."""
        self._running -= Counter([job.owner])

    def charge(self, owner: str, seconds: float) -> None:
        """Adds device time to a client's use; a negative amount corrects an earlier one."""
        fade = 0.5 ** (max(0.0, seconds) / HALF_LIFE)
        self._used = {name: used * fade for name, used in self._used.items() if used * fade > 1e-3}
        self._used[owner] = max(0.0, self._used.get(owner, 0.0) + seconds)

    def _may_run(self, owner: str) -> bool:
        return self._max_running is None or self._running[owner] < self._max_running
