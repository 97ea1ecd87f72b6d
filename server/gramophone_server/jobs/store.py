"""Where jobs are kept."""

from collections.abc import Iterable
from typing import Protocol

from .events import State
from .job import Job


class JobStore(Protocol):
    """Keeps jobs by id. Ids sort by age, so a page token is the last id of the page before."""

    def add(self, job: Job) -> None:
        """Keeps a job."""
        ...

    def get(self, job_id: str) -> Job | None:
        """The job of that id."""
        ...

    def list(
        self, *, limit: int, before: str = "", states: Iterable[State] = (), owner: str | None = None
    ) -> list[Job]:
        """At most `limit` jobs, the newest first, older than `before`, in one of `states` and of `owner` if given."""
        ...


class MemoryJobStore:
    """Jobs in memory: gone with the process. Of the jobs that have ended, the latest `keep` stay."""

    def __init__(self, keep: int = 256) -> None:
        self._keep = keep
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Keeps a job, forgetting the oldest ended ones beyond the bound."""
        self._jobs[job.id] = job
        ended = [j.id for j in self._jobs.values() if j.state.final]
        for job_id in ended[: max(0, len(ended) - self._keep)]:
            del self._jobs[job_id]

    def get(self, job_id: str) -> Job | None:
        """The job of that id."""
        return self._jobs.get(job_id)

    def list(
        self, *, limit: int, before: str = "", states: Iterable[State] = (), owner: str | None = None
    ) -> list[Job]:
        """At most `limit` jobs, the newest first, older than `before`, in one of `states` and of `owner` if given."""
        wanted = set(states) or set(State)
        newest_first = (
            job
            for job in reversed(self._jobs.values())
            if job.state in wanted and (not before or job.id < before) and owner in (None, job.owner)
        )
        return [job for _, job in zip(range(limit), newest_first, strict=False)]
