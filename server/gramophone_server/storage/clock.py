"""A clock for the age of jobs and uploads, robust against jumps of the system clock."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Seconds: a system clock that is ahead by more than _JUMP is ignored until it has been ahead for _DOUBT.
_JUMP, _DOUBT = 3600.0, 24 * 3600.0
# Maximum correction of a smaller difference, in seconds per second; clock synchronization corrects by less.
_DRIFT = 0.01


@dataclass(frozen=True)
class ClockReading:
    """The state of an AgeClock, from which it continues after a restart.

    Attributes:
        time: seconds since the epoch by the AgeClock.
        doubted: seconds for which the system clock has been ahead of it.
    """

    time: float
    doubted: float = 0.0


class AgeClock:
    """The time by which retention is computed: the system clock, except after a jump ahead.

    After a jump of more than an hour, the clock ignores the jump for 24 hours in which it is read, then follows. It
    cannot tell a jump from a long time without a server: then old data is deleted a day later than otherwise.

    Args:
        last: the last reading of an earlier server; None if there was none.
        wall, steady: return the system time and the monotonic time in seconds.
    """

    def __init__(
        self,
        last: ClockReading | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._then = steady()
        self._last = last or ClockReading(wall())

    def read(self) -> ClockReading:
        """Returns the current time and doubt."""
        wall, steady = self._wall(), self._steady()
        passed, self._then = max(0.0, steady - self._then), steady
        expected = self._last.time + passed
        ahead = wall - expected
        if ahead <= _JUMP:
            if self._last.doubted:
                log.warning("the system clock is no longer ahead")
            self._last = ClockReading(min(wall, expected + _DRIFT * passed))
        elif self._last.doubted + passed >= _DOUBT:
            log.warning("the system clock has been %.0f hours ahead for a day and is used from now on", ahead / 3600)
            self._last = ClockReading(wall)
        else:
            if not self._last.doubted:
                log.warning(
                    "the system clock is %.1f hours ahead of the last known time: it jumped, or no server was running; "
                    "retention ignores the difference for a day", ahead / 3600
                )  # fmt: skip
            self._last = ClockReading(expected, max(self._last.doubted + passed, 1e-9))
        return self._last
