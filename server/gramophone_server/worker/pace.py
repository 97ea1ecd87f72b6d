"""How fast a job goes, and how often it says so."""

PACED_EVERY = 10
"""Iterations between two moments at which a job that was not told how often to report may do so."""

# Seconds between reports at a job's beginning, most seconds between them, and what part of its age they are in between.
_FIRST, _LAST, _PART = 0.5, 2.0, 1 / 20


def pause(age: float) -> float:
    """Seconds from one report of a job to the next, at an age in seconds, where a person follows.

    A picture changes fast at first and ever more slowly later, and every report costs the steps beside it some of their
    time.
    """
    return min(_LAST, max(_FIRST, age * _PART))


class Speedometer:
    """Iterations a second over the latest report intervals, the newer counting more."""

    def __init__(self, start: float, iteration: int = 0) -> None:
        self._iteration = iteration
        self._time = start
        self._rate = 0.0

    def at(self, iteration: int, now: float) -> float:
        """The speed, on passing `iteration` at time `now` in seconds."""
        rate = (iteration - self._iteration) / max(now - self._time, 1e-9)
        self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._iteration, self._time = iteration, now
        return self._rate
