"""The interval between two reports of a job."""

import time

import pytest

from gramophone_server.worker.pace import Attention, Stopwatch, is_due, report_interval


@pytest.mark.parametrize(("age", "seconds"), [(0, 0.5), (10, 0.5), (20, 1), (30, 1.5), (40, 2), (86_400, 2)])
def test_the_pause_grows_with_the_age_of_a_job_up_to_2_seconds(age, seconds):
    assert report_interval(age) == pytest.approx(seconds)


def test_the_first_report_of_a_slow_job_comes_after_its_first_iteration():
    assert is_due(1, age=0.7, since=None)


def test_the_first_report_of_a_fast_job_shows_ten_iterations():
    assert not is_due(1, age=0.1, since=None)
    assert not is_due(7, age=0.3, since=None)
    assert is_due(10, age=0.35, since=None)


def test_further_reports_keep_their_interval():
    assert not is_due(20, age=0.7, since=0.4)
    assert is_due(30, age=0.8, since=0.5)
    assert not is_due(900, age=100, since=1.9)


def test_the_stopwatch_counts_from_the_first_frame_at_full_size():
    watch = Stopwatch()
    for iteration, now, full_size in [(10, 5.0, False), (20, 9.0, False), (30, 20.0, True), (40, 22.0, True)]:
        watch.at(iteration, now, full_size=full_size)
    assert (watch.iterations, watch.seconds) == (10, 2.0)
    watch.at(45, 23.5, full_size=True)
    assert (watch.iterations, watch.seconds) == (15, 3.5)


def test_the_runner_looks_at_a_job_after_ten_updates():
    attention = Attention(stopping=lambda: False)
    for _ in range(2):
        assert [attention() for _ in range(10)] == [False] * 9 + [True]
        attention.paid()


def test_the_runner_looks_at_a_slow_job_after_half_a_second():
    attention = Attention(stopping=lambda: False)
    time.sleep(0.6)
    assert attention()


def test_the_runner_looks_at_once_at_a_job_that_is_to_stop():
    stop: list[str] = []
    attention = Attention(stopping=lambda: bool(stop))
    assert not attention()
    stop.append("now")
    assert attention()
