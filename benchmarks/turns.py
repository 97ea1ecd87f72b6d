"""Two programs on the same cores, each for some seconds in turn while the other is stopped.

What slows a machine, other machines on it above all, comes and goes over seconds; in short slices it slows both alike,
and what is left between the two is their own. But what a program does by the clock it does at the start of its next
slice if the time for it comes while it is stopped: slices have to be as long as what it waits for, or it does in half
of the time all that it would do in the whole.
"""

import os
import signal
import statistics
import time
from collections.abc import Sequence

SLICE = 2.0

Mark = tuple[float, int]
"""A side's clock, and the iteration that it reached then."""


class Side:
    """One of the two: processes, a clock that stands while they are stopped, and the iterations they have reached."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._ran = 0.0
        self._since: float | None = None
        self.marks: list[Mark] = []

    def reached(self, iteration: int) -> None:
        """Notes an iteration, as soon as it is known."""
        since = self._since
        running = 0.0 if since is None else time.perf_counter() - since
        self.marks.append((self._ran + running, iteration))

    def run(self, seconds: float) -> None:
        """Lets the processes run for so long, and stops them."""
        self._signal(signal.SIGCONT)
        self._since = time.perf_counter()
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)
        self._ran, self._since = self._ran + time.perf_counter() - self._since, None

    def resume(self) -> None:
        """Lets them go on for good."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)


def ratios(one: Side, other: Side, *, windows: int, seconds: float) -> list[float]:
    """Seconds an iteration of the first over those of the second, window by window of so many seconds a side."""
    found = []
    try:
        for window in range(windows + 1):
            starts = [len(side.marks) for side in (one, other)]
            for _ in range(round(seconds / SLICE)):
                one.run(SLICE)
                other.run(SLICE)
            # In the first they warm up.
            if window:
                rates = [_seconds(side.marks[start:]) for side, start in zip((one, other), starts, strict=True)]
                found.append(rates[0] / rates[1])
    finally:
        one.resume()
        other.resume()
    return found


def _seconds(marks: Sequence[Mark]) -> float:
    (begun, first), (ended, last) = marks[0], marks[-1]
    return (ended - begun) / (last - first)


def percent(found: Sequence[float]) -> str:
    """The median of ratios as a surplus, with its quartiles."""
    low, middle, high = (f"{100 * (ratio - 1):+.1f} %" for ratio in statistics.quantiles(found, n=4))
    return f"{middle} (quartiles {low} and {high})"
