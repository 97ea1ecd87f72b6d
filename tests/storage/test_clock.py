"""The clock for the age of jobs, which does not trust jumps of the wall clock at once."""

import pytest

from gramophone_server.storage.clock import AgeClock, ClockReading

HOUR = 3600.0


class Clocks:
    """A fake wall clock and a fake monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.wall, self.steady = 1e9, 50.0

    def age_clock(self, last: ClockReading | None = None) -> AgeClock:
        """An AgeClock that reads these clocks and continues from the reading `last`."""
        return AgeClock(last, lambda: self.wall, lambda: self.steady)

    def advance(self, clock: AgeClock, seconds: float, every: float = 60) -> None:
        """Advances both clocks by `seconds` in steps of `every`, and reads `clock` after each step."""
        for _ in range(int(seconds / every)):
            self.wall += every
            self.steady += every
            clock.read()


@pytest.fixture
def clocks():
    return Clocks()


def test_the_clock_follows_the_wall_clock(clocks):
    clock = clocks.age_clock()
    clocks.advance(clock, 40 * 24 * HOUR, every=HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


@pytest.mark.parametrize("jump", [2 * HOUR, 31 * 24 * HOUR, 1e12])
def test_a_jump_ahead_is_trusted_after_a_day(clocks, jump, caplog):
    clock = clocks.age_clock()
    clocks.wall += jump
    assert clock.read().time == pytest.approx(1e9, abs=1)
    clocks.advance(clock, 23 * HOUR)
    assert clock.read().time == pytest.approx(1e9 + 23 * HOUR, abs=1)
    clocks.advance(clock, 2 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)
    assert caplog.text.count("ahead of the last known time") == 1


def test_the_end_of_a_jump_ahead_is_trusted_at_once(clocks):
    clock = clocks.age_clock()
    clocks.wall += 31 * 24 * HOUR
    clocks.advance(clock, 5 * HOUR)
    clocks.wall -= 31 * 24 * HOUR
    clocks.advance(clock, 30 * HOUR)
    reading = clock.read()
    assert (reading.time, reading.doubted) == (pytest.approx(clocks.wall, abs=1), 0.0)


def test_a_jump_back_is_trusted_at_once(clocks):
    clock = clocks.age_clock()
    clocks.wall -= 400 * 24 * HOUR
    assert clock.read() == ClockReading(clocks.wall)
    clocks.advance(clock, HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


def test_steps_below_an_hour_do_not_add_up(clocks):
    clock = clocks.age_clock()
    for _ in range(31 * 24):
        clocks.wall += 3500
        clocks.advance(clock, 60)
    assert clock.read().time < 1e9 + 31 * 24 * 60 + 3 * HOUR


def test_a_correction_below_an_hour_is_followed_slowly(clocks):
    clock = clocks.age_clock()
    clocks.wall += 1800
    clocks.advance(clock, 60 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


def test_the_day_of_doubt_continues_over_restarts(clocks):
    clock = clocks.age_clock()
    clocks.wall += 31 * 24 * HOUR
    clocks.advance(clock, 10 * HOUR)
    for _ in range(2):
        # The computer was off for 5 hours, and its monotonic clock starts again.
        last, clocks.steady = clock.read(), 1.0
        clocks.wall += 5 * HOUR
        clock = clocks.age_clock(last)
        clocks.advance(clock, 5 * HOUR)
        assert clock.read().time == pytest.approx(last.time + 5 * HOUR, abs=1)
    clocks.advance(clock, 5 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


def test_a_short_restart_causes_no_doubt(clocks):
    clock = clocks.age_clock(ClockReading(1e9 - 600))
    assert clock.read().doubted == 0
    clocks.advance(clock, 40 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)
