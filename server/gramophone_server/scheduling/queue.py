"""The queue of waiting jobs: fair between clients, by priority within one client."""

from collections import Counter
from collections.abc import Callable, Iterator

from ..storage.job import Job

# A client's past use is halved after this many seconds of device time of all clients.
_HALF_LIFE = 600.0


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
        fade = 0.5 ** (max(0.0, seconds) / _HALF_LIFE)
        self._used = {name: used * fade for name, used in self._used.items() if used * fade > 1e-3}
        self._used[owner] = max(0.0, self._used.get(owner, 0.0) + seconds)

    def _may_run(self, owner: str) -> bool:
        return self._max_running is None or self._running[owner] < self._max_running
