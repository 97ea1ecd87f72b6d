"""Cancels a job when its client has disconnected (`on_disconnect`).

A broken stream has many causes: the client exits, a proxy restarts, the network fails. The server cannot tell them
apart, so it cancels a job only after the client has had no stream of the job open for some seconds. Streams of other
clients do not keep the job alive.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from ..rpc.errors import Context
from ..storage.job import Job

CLIENT = "gramophone-client"
"""Metadata key that identifies the client of a call, independent of its connection."""


@dataclass
class _Presence:
    """The clients that submitted a job.

    Attributes:
        clients: their names.
        streams: number of streams of the job that they have open.
        ends: whether the job is canceled when they disconnect.
        due: the timer of the cancellation, if it is due.
    """

    clients: set[str] = field(default_factory=set)
    streams: int = 0
    ends: bool = False
    due: asyncio.TimerHandle | None = None


class ClientPresence:
    """Counts, for each job, the open streams of the clients that submitted it.

    Args:
        cancel: cancels a job whose client has disconnected.
        grace: seconds a client has to reconnect.
    """

    def __init__(self, cancel: Callable[[Job], None], grace: float) -> None:
        self._cancel = cancel
        self._grace = grace
        self._jobs: WeakKeyDictionary[Job, _Presence] = WeakKeyDictionary()

    @contextmanager
    def submitted(self, job: Job, context: Context, *, ends: bool) -> Iterator[None]:
        """Counts the stream of a submission while the block runs.

        Args:
            ends: whether to cancel the job when its client disconnects. Once set, it stays set.
        """
        presence = self._jobs.setdefault(job, _Presence())
        presence.ends = presence.ends or ends
        if name := _name_of(context):
            presence.clients.add(name)
        with self._counted(job, presence, context):
            yield

    @contextmanager
    def watched(self, job: Job, context: Context) -> Iterator[None]:
        """Counts a WatchJob stream while the block runs, if a client that submitted the job opened the stream."""
        presence = self._jobs.get(job)
        if presence is None or _name_of(context) not in presence.clients:
            yield
            return
        with self._counted(job, presence, context):
            yield

    @contextmanager
    def _counted(self, job: Job, presence: _Presence, context: Context) -> Iterator[None]:
        presence.streams += 1
        if presence.due is not None:
            presence.due.cancel()
            presence.due = None
        try:
            yield
        finally:
            presence.streams -= 1
            if presence.ends and not presence.streams and not job.state.final and not _ran_out(context):
                presence.due = asyncio.get_running_loop().call_later(self._grace, self._end, job)

    def _end(self, job: Job) -> None:
        if not job.state.final:
            self._cancel(job)


def _name_of(context: Context) -> str:
    """Returns the client's name from the call's metadata; empty if the client sends none."""
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT:
            return value if isinstance(value, str) else ""
    return ""


def _ran_out(context: Context) -> bool:
    """Whether the stream ended at its deadline: the client may still be connected."""
    left = context.time_remaining()
    return left is not None and left <= 0.05
