import pytest

from gramophone_server.storage.clock import AgeClock, Reading

HOUR = 3600.0


class Clocks:
    """A computer's two clocks, in the test's hands."""

    def __init__(self) -> None:
        self.wall, self.steady = 1e9, 50.0

    def of(self, last: Reading | None = None) -> AgeClock:
        return AgeClock(last, lambda: self.wall, lambda: self.steady)

    def go(self, clock: AgeClock, seconds: float, every: float = 60) -> None:
        """Lets time pass, as it does, and the clock be read meanwhile."""
        for _ in range(int(seconds / every)):
            self.wall += every
            self.steady += every
            clock.read()


@pytest.fixture
def clocks():
    return Clocks()


def test_it_shows_the_time(clocks):
    clock = clocks.of()
    clocks.go(clock, 40 * 24 * HOUR, every=HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


@pytest.mark.parametrize("jump", [2 * HOUR, 31 * 24 * HOUR, 1e12])
def test_a_jump_ahead_counts_after_a_day_only(clocks, jump, caplog):
    clock = clocks.of()
    clocks.wall += jump
    assert clock.read().time == pytest.approx(1e9, abs=1)
    clocks.go(clock, 23 * HOUR)
    assert clock.read().time == pytest.approx(1e9 + 23 * HOUR, abs=1)
    clocks.go(clock, 2 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)
    assert caplog.text.count("ahead of what it was") == 1


def test_a_clock_that_comes_back_is_believed_at_once(clocks):
    clock = clocks.of()
    clocks.wall += 31 * 24 * HOUR
    clocks.go(clock, 5 * HOUR)
    clocks.wall -= 31 * 24 * HOUR
    clocks.go(clock, 30 * HOUR)
    assert clock.read() == Reading(pytest.approx(clocks.wall, abs=1), 0.0)


def test_a_jump_back_is_followed(clocks):
    clock = clocks.of()
    clocks.wall -= 400 * 24 * HOUR
    assert clock.read() == Reading(clocks.wall)
    clocks.go(clock, HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


def test_steps_below_an_hour_do_not_add_up(clocks):
    clock = clocks.of()
    for _ in range(31 * 24):
        clocks.wall += 3500
        clocks.go(clock, 60)
    assert clock.read().time < 1e9 + 31 * 24 * 60 + 3 * HOUR


def test_a_correction_below_an_hour_is_taken_in_slowly(clocks):
    clock = clocks.of()
    clocks.wall += 1800
    clocks.go(clock, 60 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


def test_restarts_change_nothing(clocks):
    clock = clocks.of()
    clocks.wall += 31 * 24 * HOUR
    clocks.go(clock, 10 * HOUR)
    for _ in range(2):
        # A computer that was off, and has new clocks.
        last, clocks.steady = clock.read(), 1.0
        clocks.wall += 5 * HOUR
        clock = clocks.of(last)
        clocks.go(clock, 5 * HOUR)
        assert clock.read().time == pytest.approx(last.time + 5 * HOUR, abs=1)
    clocks.go(clock, 5 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)


def test_a_short_restart_is_not_noticed(clocks):
    clock = clocks.of(Reading(1e9 - 600))
    assert clock.read().doubted == 0
    clocks.go(clock, 40 * HOUR)
    assert clock.read().time == pytest.approx(clocks.wall, abs=1)
