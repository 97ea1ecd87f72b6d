"""The jobs that run on one executor, and each job's share of the device time."""

import time
from dataclasses import dataclass, field

from ..storage.job import Job
from .executor import Executor


def runs_alone(job: Job) -> bool:
    """Returns whether a job must not share its device.

    A job that asks for the same bytes again runs alone. So does a job that has run out of memory, or that was running
    when its worker died: if it fails again, it harms no other job, and it is known which job failed.
    """
    return job.spec.options.reproducible or job.squeeze > 0 or job.losses > 0 or job.suspected


@dataclass(eq=False)
class Crew:
    """The jobs that run on an executor.

    Attributes:
        jobs: the running jobs, and the device time of each in seconds: at each moment, running jobs share it equally.
    """

    executor: Executor
    jobs: dict[Job, float] = field(default_factory=dict)
    _counted: float = 0.0

    def accepts(self, job: Job) -> bool:
        """Returns whether a job can run now: alone, or beside jobs that also share the device."""
        if not self.jobs:
            return True
        return not any(map(runs_alone, (job, *self.jobs))) and self.executor.makes_room(len(self.jobs))

    def add(self, job: Job) -> None:
        """Adds a job that starts now."""
        self._count()
        self.jobs[job] = 0.0

    def remove(self, job: Job) -> float:
        """Removes a job that has ended; returns its device time in seconds."""
        self._count()
        return self.jobs.pop(job)

    def _count(self) -> None:
        """Adds the time since the last call to that of the jobs."""
        now = time.monotonic()
        for job in self.jobs:
            self.jobs[job] += (now - self._counted) / len(self.jobs)
        self._counted = now
