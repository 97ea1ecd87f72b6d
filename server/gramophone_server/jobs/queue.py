"""Which of the waiting jobs is next: fair between clients, by priority within each."""

from collections.abc import Iterator

from .job import Job

# A client's past use counts for less as others are served: halved over so many seconds of all clients' use.
_HALF_LIFE = 600.0


class FairQueue:
    """Jobs that wait.

    Next comes a job of the client that has had the least of the devices' time lately and, of that client's, the one
    that was interrupted, has the highest priority, or has waited longest, in this order.
    """

    def __init__(self) -> None:
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
        """Takes the next job out; None if none waits."""
        if not self._waiting:
            return None
        owner = min(self._waiting, key=lambda name: (self._used.get(name, 0.0), min(j.id for j in self._waiting[name])))
        job = min(self._waiting[owner], key=lambda job: (job.attempts == 0, -job.priority, job.id))
        self.remove(job)
        return job

    def charge(self, owner: str, seconds: float) -> None:
        """Counts device time that a client has had; may be corrected by a negative amount."""
        fade = 0.5 ** (max(0.0, seconds) / _HALF_LIFE)
        self._used = {name: used * fade for name, used in self._used.items() if used * fade > 1e-3}
        self._used[owner] = max(0.0, self._used.get(owner, 0.0) + seconds)
