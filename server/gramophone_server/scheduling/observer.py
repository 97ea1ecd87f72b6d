"""Observers of jobs, such as metrics and traces."""

import logging
from collections.abc import Callable, Sequence

from ..messages.events import Progress
from ..storage.job import Job

log = logging.getLogger(__name__)


class Observer:
    """Does nothing; subclasses override what they need. Called on the event loop: methods must not block or raise."""

    def queued(self, job: Job) -> None:
        """Is called when a job is queued: a new job, one that lost its worker, or one left by an earlier server.

        In a cluster, it is called when this front takes the job.
        """

    def started(self, job: Job) -> None:
        """Is called when a worker starts the job."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """Is called when the job reports progress."""

    def ended(self, job: Job) -> None:
        """Is called when the job has ended; its state says how."""

    def left(self, job: Job) -> None:
        """Is called when this server no longer holds a job that has not ended: another front of the cluster may."""


class Observers(Observer):
    """Calls several observers. An exception of one is logged and does not affect the job or the others."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def queued(self, job: Job) -> None:
        """Calls `queued` of each observer."""
        self._call(lambda observer: observer.queued(job))

    def started(self, job: Job) -> None:
        """Calls `started` of each observer."""
        self._call(lambda observer: observer.started(job))

    def progressed(self, job: Job, progress: Progress) -> None:
        """Calls `progressed` of each observer."""
        self._call(lambda observer: observer.progressed(job, progress))

    def ended(self, job: Job) -> None:
        """Calls `ended` of each observer."""
        self._call(lambda observer: observer.ended(job))

    def left(self, job: Job) -> None:
        """Calls `left` of each observer."""
        self._call(lambda observer: observer.left(job))

    def _call(self, method: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                method(observer)
            except Exception:
                log.exception("an observer of jobs failed")
