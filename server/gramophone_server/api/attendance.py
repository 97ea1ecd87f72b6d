"""Jobs that are cancelled when their client leaves: who is still there.

A stream that breaks says little: a client that leaves, a proxy that is restarted and a network that is gone all look
alike to a server. So a job is cancelled only when its client has had none of its streams open for some seconds. Whoever
else watches the job does not keep it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from ..rpc.errors import Context
from ..storage.job import Job

GRACE = 10.0
"""Seconds that a client has to come back: longer than the SDK pauses between two tries, with the time to connect."""
CLIENT = "gramophone-client"
"""The metadata by which streams are known to be of one client, whatever connections they come over."""


@dataclass
class _Attended:
    """A job's clients and how many streams they have open, whether the job ends with them, and the end that is due."""

    clients: set[str] = field(default_factory=set)
    streams: int = 0
    ends: bool = False
    due: asyncio.TimerHandle | None = None


class Attendance:
    """Counts the streams of each job that the client which submitted it has open.

    Args:
        cancel: cancels a job whose client has left.
        grace: seconds that a client has to come back.
    """

    def __init__(self, cancel: Callable[[Job], None], grace: float = GRACE) -> None:
        self._cancel = cancel
        self._grace = grace
        self._jobs: WeakKeyDictionary[Job, _Attended] = WeakKeyDictionary()

    @contextmanager
    def submitted(self, job: Job, context: Context, *, ends: bool) -> Iterator[None]:
        """Counts a stream of the submission of a job for the length of the block.

        Args:
            ends: whether the job is to end with its client, from now on.
        """
        attended = self._jobs.setdefault(job, _Attended())
        attended.ends = attended.ends or ends
        if name := _name_of(context):
            attended.clients.add(name)
        with self._counted(job, attended, context):
            yield

    @contextmanager
    def watched(self, job: Job, context: Context) -> Iterator[None]:
        """Counts another stream of a job, if it is of a client that submitted it, for the length of the block."""
        attended = self._jobs.get(job)
        if attended is None or _name_of(context) not in attended.clients:
            yield
            return
        with self._counted(job, attended, context):
            yield

    @contextmanager
    def _counted(self, job: Job, attended: _Attended, context: Context) -> Iterator[None]:
        attended.streams += 1
        if attended.due is not None:
            attended.due.cancel()
            attended.due = None
        try:
            yield
        finally:
            attended.streams -= 1
            if attended.ends and not attended.streams and not job.state.final and not _ran_out(context):
                attended.due = asyncio.get_running_loop().call_later(self._grace, self._end, job)

    def _end(self, job: Job) -> None:
        if not job.state.final:
            self._cancel(job)


def _name_of(context: Context) -> str:
    """What a client calls itself in the metadata of its calls; empty if it does not."""
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT:
            return value if isinstance(value, str) else ""
    return ""


def _ran_out(context: Context) -> bool:
    """Whether the stream ended at its deadline, which says nothing of its client."""
    left = context.time_remaining()
    return left is not None and left <= 0.05
