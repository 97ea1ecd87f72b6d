"""Jobs that are cancelled when their client leaves: who is still there.

A stream that breaks says little: a client that leaves, a proxy that is restarted and a network that is gone all look
alike to a server. So a job is cancelled only when none of its owner's streams of it has been open for some seconds.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from ..jobs.job import Job
from .errors import Context

GRACE = 10.0
"""Seconds that a client has to come back: longer than the SDK pauses between two tries, with the time to connect."""


@dataclass
class _Attended:
    """A job's streams: how many are open, whether the job ends with them, and the end that is due."""

    streams: int = 0
    ends: bool = False
    due: asyncio.TimerHandle | None = None


class Attendance:
    """Counts the streams of each job that its owner has open.

    Args:
        cancel: cancels a job whose client has left.
        grace: seconds that a client has to come back.
    """

    def __init__(self, cancel: Callable[[Job], None], grace: float = GRACE) -> None:
        self._cancel = cancel
        self._grace = grace
        self._jobs: WeakKeyDictionary[Job, _Attended] = WeakKeyDictionary()

    @contextmanager
    def one(self, job: Job, context: Context, *, ends: bool = False) -> Iterator[None]:
        """Counts a stream of a job to its owner for the length of the block.

        Args:
            ends: whether the job is to end with its client, from now on.
        """
        attended = self._jobs.setdefault(job, _Attended())
        attended.ends = attended.ends or ends
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


def _ran_out(context: Context) -> bool:
    """Whether the stream ended at its deadline, which says nothing of its client."""
    left = context.time_remaining()
    return left is not None and left <= 0.05
