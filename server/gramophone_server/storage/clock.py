"""A clock for how old things are, on which nothing becomes old because somebody has set the time."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Seconds: a clock that runs ahead by more is not believed, until it has stayed there for so long.
_JUMP, _DOUBT = 3600.0, 24 * 3600.0
# How much of a small difference is taken in a second: a clock that is put right goes by less at a time.
_DRIFT = 0.01


@dataclass(frozen=True)
class Reading:
    """What a clock showed, to go on from after a restart.

    Attributes:
        time: seconds since the epoch, as believed.
        doubted: for how many seconds the computer's clock has been ahead of it.
    """

    time: float
    doubted: float = 0.0


class AgeClock:
    """The time by which things are old enough to be forgotten: the computer's, unless that jumps ahead.

    After a jump of more than an hour it goes on as before for 24 hours in which it is read, and then follows. A
    computer that was off for long looks the same, and costs the same: what is old is forgotten a day later.

    Args:
        last: what it showed before this server; None if there was none.
        wall, steady: the clocks, in seconds.
    """

    def __init__(
        self,
        last: Reading | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._then = steady()
        self._last = last or Reading(wall())

    def read(self) -> Reading:
        """The time, as believed."""
        wall, steady = self._wall(), self._steady()
        passed, self._then = max(0.0, steady - self._then), steady
        expected = self._last.time + passed
        ahead = wall - expected
        if ahead <= _JUMP:
            if self._last.doubted:
                log.warning("the clock is right again")
            self._last = Reading(min(wall, expected + _DRIFT * passed))
        elif self._last.doubted + passed >= _DOUBT:
            log.warning("the clock has been %.0f hours ahead for a day and is believed from now on", ahead / 3600)
            self._last = Reading(wall)
        else:
            if not self._last.doubted:
                log.warning(
                    "the clock is %.1f hours ahead of what it was, by a jump or because no server was running: what is "
                    "old is forgotten only if it stays so for a day", ahead / 3600
                )  # fmt: skip
            self._last = Reading(expected, max(self._last.doubted + passed, 1e-9))
        return self._last
