"""Compares two programs on the same cores: each runs for some seconds while the other is stopped.

The speed of a machine varies over seconds, above all because of other virtual machines on the same host. Short time
slices expose both programs to the same variation, so their ratio is accurate. But a timer of a program that expires
while the program is stopped fires at the start of its next slice. So a slice must be at least as long as the program's
timers; otherwise the program does all of its periodic work in half of the time.
"""

import os
import signal
import statistics
import time
from collections.abc import Sequence

SLICE = 2.0

Mark = tuple[float, int]
"""(clock in seconds, iteration reached)."""


class Side:
    """One of the two programs: its processes, and the iterations it reached.

    Args:
        pids: ids of the processes.

    Attributes:
        marks: the iterations reached, with the running time; the clock stops while the processes are stopped.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._ran = 0.0
        self._since: float | None = None
        self.marks: list[Mark] = []

    def reached(self, iteration: int) -> None:
        """Records that the program has just reached an iteration."""
        since = self._since
        running = 0.0 if since is None else time.perf_counter() - since
        self.marks.append((self._ran + running, iteration))

    def run(self, seconds: float) -> None:
        """Lets the processes run for the given seconds, then stops them."""
        self._signal(signal.SIGCONT)
        self._since = time.perf_counter()
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)
        self._ran, self._since = self._ran + time.perf_counter() - self._since, None

    def resume(self) -> None:
        """Lets the processes continue without limit."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)


def ratios(one: Side, other: Side, *, windows: int, seconds: float) -> list[float]:
    """Returns the seconds per iteration of the first side divided by those of the second, for each window.

    Args:
        one, other: the two sides.
        windows: number of windows, after one for warming up.
        seconds: seconds that each side runs in a window.
    """
    found = []
    try:
        for window in range(windows + 1):
            starts = [len(side.marks) for side in (one, other)]
            for _ in range(round(seconds / SLICE)):
                one.run(SLICE)
                other.run(SLICE)
            # The first window is for warming up.
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
    """Returns the median of ratios as a difference from 1 in percent, with the quartiles."""
    low, middle, high = (f"{100 * (ratio - 1):+.1f} %" for ratio in statistics.quantiles(found, n=4))
    return f"{middle} (quartiles {low} and {high})"
