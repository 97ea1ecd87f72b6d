"""What happens to jobs, told to whoever counts it."""

from .events import Progress
from .job import Job


class Observer:
    """Is told of every job's fate, on the event loop; does nothing by itself. Its methods must not block or raise."""

    def queued(self, job: Job) -> None:
        """A job waits: a new one, or one whose worker was lost."""

    def started(self, job: Job) -> None:
        """A worker has taken the job."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """The job is that far."""

    def ended(self, job: Job) -> None:
        """The job has ended, as its state says."""
