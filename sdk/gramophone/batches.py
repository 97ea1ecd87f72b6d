"""Batches of jobs (`Client.map`): the part that the synchronous and the asynchronous client share."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .brief import Value
from .errors import OverloadedError
from .values import Result

OVERLOAD_RETRY = 3600.0
"""Seconds for which a submission of a batch is retried while the server has no room."""
LEAVING = 5.0
"""Maximum seconds that leaving a batch early waits for the submission under way, to cancel its job."""

# Bounds of the random part of the pause after a refused submission, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


@dataclass(frozen=True, repr=False)
class Outcome(Value):
    """The outcome of one job of a batch.

    Attributes:
        number: index of the job in the batch, from 0.
        job_id: the job's id; None if it could not be submitted.
        value: the job's result; None if it has none.
        error: the reason why it has no result; None if it has one.
    """

    _shown = ("number", "job_id", "error", "value")

    number: int
    job_id: str | None
    value: Result | None
    error: Exception | None

    def result(self) -> Result:
        """Returns the job's result.

        Raises:
            Exception: the `error`, if the job has no result.
        """
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class Accepted(NamedTuple):
    """A message of a background submission: the server has accepted the job with this number."""

    number: int
    job: Any


class Refused(NamedTuple):
    """A message of a background submission: the server has no room for the job with this number."""

    number: int
    error: OverloadedError


class Batch:
    """The state of one batch: which job to submit next, and which outcome to yield next.

    It submits one job at a time, keeps at most `at_once` jobs submitted and not ended, and stops submitting while
    `at_once` outcomes wait to be yielded.

    Attributes:
        jobs: the jobs that have been accepted and have not ended, by number.
        left: whether the caller has left the loop; jobs accepted from then on must be canceled.
    """

    def __init__(self, each: Iterable[tuple[Any, ...]], at_once: int, in_order: bool) -> None:
        self.jobs: dict[int, Any] = {}
        self.left = False
        self._each = enumerate(each)
        self._at_once, self._in_order = at_once, in_order
        # The arguments of the job that is being submitted, or that the server has refused.
        self._current: tuple[int, tuple[Any, ...]] | None = None
        self._submitting = False
        self._running = 0
        self._ended: dict[int, Outcome] = {}
        self._next = 0
        self._overload = _Overload()

    def due(self) -> tuple[int, tuple[Any, ...]] | None:
        """Returns the number and the arguments of the job to submit now; None if there is none now."""
        if not self._has_room() or self._overload.pause() > 0:
            return None
        self._current = self._current or next(self._each, None)
        self._submitting = self._current is not None
        self._running += self._submitting
        return self._current

    def take(self, message: Accepted | Refused | Outcome | None) -> None:
        """Processes a message of a job; None is ignored."""
        match message:
            case Accepted(number, job):
                self.jobs[number] = job
                self._submitted()
            case Refused(number, error):
                self._running -= 1
                self._submitting = False
                if not self._overload.refused(error):
                    self._submitted()
                    self._ended[number] = Outcome(number, None, None, error)
            case Outcome():
                self._running -= 1
                if self.jobs.pop(message.number, None) is None:
                    self._submitted()
                self._ended[message.number] = message

    def ready(self) -> Outcome | None:
        """Returns the next outcome to yield; None if there is none yet."""
        number = self._next if self._in_order else next(iter(self._ended), self._next)
        outcome = self._ended.pop(number, None)
        self._next += outcome is not None
        return outcome

    @property
    def finished(self) -> bool:
        """Whether all outcomes have been yielded, provided that no job is due."""
        return not (self._running or self._ended or self._current)

    @property
    def submitting(self) -> bool:
        """Whether a submission is under way."""
        return self._submitting

    def pause(self) -> float | None:
        """Returns the maximum seconds to wait for a message; None for no limit."""
        return self._overload.pause() if self._current and self._has_room() else None

    def _submitted(self) -> None:
        self._current, self._submitting = None, False
        self._overload = _Overload()

    def _has_room(self) -> bool:
        return not self._submitting and self._running < self._at_once and len(self._ended) < self._at_once


class _Overload:
    """The retries of one submission while the server has no room."""

    def __init__(self) -> None:
        self._refusals = 0
        self._end = self._retry_at = 0.0

    def refused(self, error: OverloadedError) -> bool:
        """Notes that the server has no room; returns whether to try again.

        The next attempt is after the server's hint, and a random time so that not all clients return at once.
        """
        now = time.monotonic()
        self._end = self._end or now + OVERLOAD_RETRY
        jitter = random.uniform(0, min(_FIRST_PAUSE * 2.0 ** min(self._refusals, 10), _LONGEST_PAUSE))
        self._refusals += 1
        self._retry_at = now + (error.retry_after or 0) + jitter
        return self._retry_at < self._end

    def pause(self) -> float:
        """Returns the seconds until the next attempt."""
        return max(self._retry_at - time.monotonic(), 0)


def method_and_lists(
    transfer: Callable[..., Any], first: Any, iterables: tuple[Iterable[Any], ...], options: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Iterable[Any], ...]]:
    """Returns the method of a batch and the lists of its arguments, for both forms of `Client.map`.

    `map(pictures, style=...)` is a transfer of every picture; `style` is removed from the options.

    Raises:
        TypeError: the style is missing, or there is a single picture, or there are further lists.
    """
    if callable(first):
        return first, iterables
    if iterables:
        raise TypeError(
            "map with several lists takes a method first, such as client.map(client.transfer, photos, styles)"
        )
    if "style" not in options:
        raise TypeError('map of pictures takes style=..., such as client.map(photos, style="night.jpg")')
    if not isinstance(first, Iterable) or getattr(first, "ndim", 4) < 4 or hasattr(first, "read"):
        raise TypeError("map takes several pictures; for one picture write client.map([picture], style=...)")
    return transfer, (first, itertools.repeat(options.pop("style")))


def arguments(iterables: Iterable[Iterable[Any]], at_once: int) -> Iterator[tuple[Any, ...]]:
    """Yields the positional arguments of each job of a batch.

    Raises:
        TypeError: there is no iterable, or an iterable is a str or bytes, whose characters would be the arguments.
        ValueError: at_once is not an integer of at least 1.
    """
    iterables = tuple(iterables)
    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        raise ValueError(f"at_once must be at least 1, not {at_once!r}")
    if not iterables:
        raise TypeError(
            "map takes a method and at least one list of its arguments, such as client.map(client.style, files)"
        )
    for each in iterables:
        if isinstance(each, str | bytes):
            raise TypeError(
                f"map takes lists of arguments; for the same argument in every job write "
                f"itertools.repeat({each[:40]!r})"
            )
    return zip(*iterables, strict=False)
