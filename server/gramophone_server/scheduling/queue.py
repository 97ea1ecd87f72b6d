"""Which of the waiting jobs is next: fair between clients, by priority within each."""

from collections import Counter
from collections.abc import Iterator

from ..storage.job import Job

# A client's past use counts for less as others are served: halved over so many seconds of all clients' use.
_HALF_LIFE = 600.0


class FairQueue:
    """Jobs that wait.

    Next comes a job of the client that has had the least of the devices' time lately and, of that client's, the one
    that was interrupted, has the highest priority, or has waited longest, in this order. A client who has as many
    running as one may have is passed over.

    Args:
        most_running: jobs of one client that may be out at once; None for no bound.
    """

    def __init__(self, most_running: int | None = None) -> None:
        self._most_running = most_running
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, list[Job]] = {}
        self._used: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._waiting.values())

    def __iter__(self) -> Iterator[Job]:
        for jobs in self._waiting.values():
            yield from jobs

    def __contains__(self, job: Job) -> bool:
        return job in self._waiting.get(job.owner, ())

    def count(self, owner: str) -> int:
        """How many jobs of a client wait."""
        return len(self._waiting.get(owner, ()))

    def push(self, job: Job) -> None:
        """Lets a job wait."""
        self._waiting.setdefault(job.owner, []).append(job)

    def remove(self, job: Job) -> None:
        """Takes a job out."""
        jobs = self._waiting[job.owner]
        jobs.remove(job)
        if not jobs:
            del self._waiting[job.owner]

    def pop(self) -> Job | None:
        """Takes the next job out, which runs until `done`; None if none waits that may run."""
        free = [name for name in self._waiting if self._may_run(name)]
        if not free:
            return None
        owner = min(free, key=lambda name: (self._used.get(name, 0.0), min(j.id for j in self._waiting[name])))
        job = min(self._waiting[owner], key=lambda job: (job.attempts == 0, -job.priority, job.id))
        self.remove(job)
        self._running[owner] += 1
        return job

    def done(self, job: Job) -> bool:
        """Notes that a job that was taken out does not run any more; whether one that was passed over may run now."""
        held_up = not self._may_run(job.owner) and job.owner in self._waiting
        self._running -= Counter([job.owner])
        return held_up

    def charge(self, owner: str, seconds: float) -> None:
        """Counts device time that a client has had; may be corrected by a negative amount."""
        fade = 0.5 ** (max(0.0, seconds) / _HALF_LIFE)
        self._used = {name: used * fade for name, used in self._used.items() if used * fade > 1e-3}
        self._used[owner] = max(0.0, self._used.get(owner, 0.0) + seconds)

    def _may_run(self, owner: str) -> bool:
        return self._most_running is None or self._running[owner] < self._most_running
