"""Batches of jobs (`Client.map`): the part that the synchronous and the asynchronous client share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .brief import Value
from .values import Result

OVERLOAD_RETRY = 3600.0
"""Seconds for which a submission of a batch is retried while the server has no room."""


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
