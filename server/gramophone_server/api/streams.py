"""Streams of job events to clients, with limits on their number and on the rate of reports."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import grpc

from gramophone.v1 import job_pb2

from ..messages.events import Event, Progress
from ..rpc.errors import Context, abort
from ..rpc.violations import LimitReachedError
from ..storage.job import Job
from ..storage.store import JobStore
from .render import render_event


class Streams:
    """The open streams of all clients.

    Args:
        limit: maximum number of open streams.
        rate: maximum reports per second on all streams together. With many streams, each sends fewer reports, always
            the latest. Without the limit, many watchers would slow down the job, which runs on the same CPU.

    Attributes:
        open: number of open streams.
    """

    def __init__(self, store: JobStore, limit: int, rate: float) -> None:
        self._store = store
        self._limit = limit
        self._rate = rate
        self._rendered: WeakKeyDictionary[Job, tuple[Event, job_pb2.JobEvent]] = WeakKeyDictionary()
        self.open = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Counts one open stream while the block runs.

        Raises:
            LimitReachedError: too many streams are open.
        """
        if self.open >= self._limit:
            message = f"{self._limit} streams are open already, the maximum of this server"
            raise LimitReachedError(message, retry_after=5.0)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def events(self, job: Job, context: Context, after: int = 0) -> AsyncIterator[job_pb2.JobEvent]:
        """Yields a job's events with a sequence above `after`: first the past ones, then new ones at the client's pace.

        Aborts the call with UNAVAILABLE if the server shuts down before the job ends.
        """
        async for event in self._store.replay(job, after):
            after = event.sequence
            yield self._render(job, event)
        async for event in job.watch(after):
            yield self._render(job, event)
            if isinstance(event.detail, Progress) and self.open > 1:
                await job.sleep(self.open / self._rate)
        if not job.state.final:
            message = f"The server is shutting down; job {job.id} continues after its restart: watch it with WatchJob."
            await abort(context, grpc.StatusCode.UNAVAILABLE, message)

    def _render(self, job: Job, event: Event) -> job_pb2.JobEvent:
        """Returns an event's message. The latest message of each job is cached: its watchers share it."""
        known = self._rendered.get(job)
        if known is None or known[0] is not event:
            known = self._rendered[job] = event, render_event(job, event)
        return known[1]
