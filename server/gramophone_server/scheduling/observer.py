"""What happens to jobs, told to whoever counts it."""

import logging
from collections.abc import Callable, Sequence

from ..messages.events import Progress
from ..storage.job import Job

log = logging.getLogger(__name__)


class Observer:
    """Is told of every job's fate, on the event loop; does nothing by itself. Its methods must not block or raise."""

    def queued(self, job: Job) -> None:
        """A job waits: a new one, one whose worker was lost, or one that an earlier server has left."""

    def started(self, job: Job) -> None:
        """A worker has taken the job."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """The job is that far."""

    def ended(self, job: Job) -> None:
        """The job has ended, as its state says."""


class Observers(Observer):
    """Tells several; what one of them raises is logged and does no harm to the job."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def queued(self, job: Job) -> None:
        """A job waits."""
        self._tell(lambda observer: observer.queued(job))

    def started(self, job: Job) -> None:
        """A worker has taken the job."""
        self._tell(lambda observer: observer.started(job))

    def progressed(self, job: Job, progress: Progress) -> None:
        """The job is that far."""
        self._tell(lambda observer: observer.progressed(job, progress))

    def ended(self, job: Job) -> None:
        """The job has ended."""
        self._tell(lambda observer: observer.ended(job))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                log.exception("a job could not be observed")
