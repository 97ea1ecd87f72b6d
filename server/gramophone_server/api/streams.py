"""Streams of a job's events to clients: how many there may be, and how much they get."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import grpc

from gramophone.v1 import job_pb2

from ..messages.events import Event, Progress
from ..rpc.errors import Context, abort
from ..rpc.violations import TooMuchError
from ..storage.job import Job
from ..storage.store import JobStore
from .render import render_event


class Streams:
    """The open streams.

    Args:
        most: of all clients together.
        rate: reports a second that all of them together get; with many watchers each sees fewer, always the latest.
            A crowd would otherwise take from the job that it watches the processor that both run on.
    """

    def __init__(self, store: JobStore, most: int, rate: float) -> None:
        self._store = store
        self._most = most
        self._rate = rate
        self._rendered: WeakKeyDictionary[Job, tuple[Event, job_pb2.JobEvent]] = WeakKeyDictionary()
        self.open = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts a stream for the length of the block.

        Raises:
            TooMuchError: there are too many.
        """
        if self.open >= self._most:
            message = f"{self._most} streams are open already, which is as many as this server lets be"
            raise TooMuchError(message, retry_after=5.0)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def events(self, job: Job, context: Context, after: int = 0) -> AsyncIterator[job_pb2.JobEvent]:
        """A job's events: all that there have been after `after`, then the new ones as the client comes to read them.

        Ends the call with UNAVAILABLE if the server leaves before the job has ended.
        """
        async for event in self._store.replay(job, after):
            after = event.sequence
            yield self._render(job, event)
        async for event in job.watch(after):
            yield self._render(job, event)
            if isinstance(event.detail, Progress) and self.open > 1:
                await job.rest(self.open / self._rate)
        if not job.state.final:
            message = f"The server is shutting down; job {job.id} goes on when it is back, and WatchJob finds it again."
            await abort(context, grpc.StatusCode.UNAVAILABLE, message)

    def _render(self, job: Job, event: Event) -> job_pb2.JobEvent:
        """An event's message, made once for all the watchers of a job who come for the latest."""
        known = self._rendered.get(job)
        if known is None or known[0] is not event:
            known = self._rendered[job] = event, render_event(job, event)
        return known[1]
