"""Many jobs, some at a time: what the synchronous and the asynchronous client share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .brief import Value
from .values import Result

PATIENCE = 3600.0
"""Seconds for which a server without room is asked again for each job."""


@dataclass(frozen=True, repr=False)
class Outcome(Value):
    """What became of one job of a batch.

    Attributes:
        number: which of the batch, from 0.
        job_id: its job's id; None if it could not be submitted.
        value: what it made; None if it made nothing.
        error: why not; None if it did.
    """

    _shown = ("number", "job_id", "error", "value")

    number: int
    job_id: str | None
    value: Result | None
    error: Exception | None

    def result(self) -> Result:
        """What it made.

        Raises:
            Exception: the `error`, if it made nothing.
        """
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


def arguments(iterables: Iterable[Iterable[Any]], at_once: int) -> Iterator[tuple[Any, ...]]:
    """The arguments of each job of a batch.

    Raises:
        TypeError: there is nothing to go through, or a text or bytes, of which each letter would be one.
        ValueError: none would be let run.
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
                f"map takes lists of arguments; for the same one in every job write itertools.repeat({each[:40]!r})"
            )
    return zip(*iterables, strict=False)
