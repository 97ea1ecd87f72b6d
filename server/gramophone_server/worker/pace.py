"""How often a job reports, and its speed in iterations per second."""

PACED_EVERY = 10
"""Iterations between two possible reports of a job with `report_every` = 0, whose reports are paced by time."""

EARLY = (1, 2, 3, 5, 7)
"""Further iterations at which such a job can report: ten iterations of a large picture take minutes."""

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
