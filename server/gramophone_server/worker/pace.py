"""How often a job reports, how often its runner looks at it, and its speed in iterations per second."""

import time
from collections.abc import Callable

PACED_EVERY = 10
"""Iterations between two looks at a job, which are the possible reports of one with `report_every` = 0."""

# Minimum and maximum seconds between two reports; in between, the interval is this fraction of the job's age.
_FIRST, _LAST, _PART = 0.5, 2.0, 1 / 20


def report_interval(age: float) -> float:
    """Returns the seconds between two reports of a job with `report_every` = 0 that has run for `age` seconds.

    A picture changes fast at first and more slowly later, and each report takes computing time from the optimization.
    """
    return min(_LAST, max(_FIRST, age * _PART))


def is_due(iteration: int, age: float, since: float | None) -> bool:
    """Returns whether a job with `report_every` = 0 reports now.

    The first report comes after the shortest interval, or after ten iterations if they take less time.

    Args:
        iteration: number of iterations done.
        age: seconds that the job has run.
        since: seconds since the last report; None before the first.
    """
    if since is None:
        return age >= _FIRST or iteration >= PACED_EVERY
    return since >= report_interval(age)


class Attention:
    """Decides after which updates the runner looks at a job, besides its reports.

    It looks at once if the job is to stop. Otherwise it looks every `PACED_EVERY` updates, because on a GPU the host
    would run far ahead, and after half a second, because ten updates of a large picture take minutes.

    Args:
        stopping: returns whether the job is to stop.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self.paid()

    def paid(self) -> None:
        """Begins to count anew; called when the runner looks at the job."""
        self._updates, self._time = 0, time.monotonic()

    def __call__(self) -> bool:
        """Counts an update; returns whether the runner looks at the job now."""
        self._updates += 1
        due = self._updates >= PACED_EVERY or time.monotonic() - self._time >= _FIRST
        return due or self._stopping()


class Speedometer:
    """Iterations per second, as an exponential average over the report intervals.

    Args:
        start: time in seconds when the optimization starts.
        iteration: number of iterations done at that time.
    """

    def __init__(self, start: float, iteration: int = 0) -> None:
        self._iteration = iteration
        self._time = start
        self._rate = 0.0

    def at(self, iteration: int, now: float) -> float:
        """Returns the speed in iterations per second, given that `iteration` is reached at time `now` in seconds."""
        rate = (iteration - self._iteration) / max(now - self._time, 1e-9)
        self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._iteration, self._time = iteration, now
        return self._rate


class Stopwatch:
    """The seconds of the iterations at full size, from the first frame there on.

    The time before that frame has the extraction of the targets and the first step, which is slower.

    Attributes:
        iterations: number of iterations.
        seconds: their duration.
    """

    def __init__(self) -> None:
        self.iterations = 0
        self.seconds = 0.0
        self._last: tuple[int, float] | None = None

    def at(self, iteration: int, now: float, *, full_size: bool) -> None:
        """Counts the iterations since the frame before.

        Args:
            iteration: number of iterations done.
            now: the time in seconds.
            full_size: whether the last one was at full size.
        """
        if not full_size:
            return
        if self._last is not None:
            self.iterations += iteration - self._last[0]
            self.seconds += now - self._last[1]
        self._last = iteration, now
