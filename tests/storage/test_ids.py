"""Ids of jobs: order, uniqueness, and validation."""

import time

import pytest

from gramophone_server.storage.ids import JobIds, is_job_id


def test_ids_sort_by_age_and_are_all_different():
    ids = JobIds()
    made = [ids.next() for _ in range(1000)]
    assert made == sorted(set(made))
    assert all(is_job_id(one) for one in made)
    assert abs(int(made[0][:14], 16) / 1e6 - time.time()) < 10


def test_new_ids_follow_old_ones_when_the_clock_is_set_back(monkeypatch):
    ids = JobIds()
    before = ids.next()
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    assert ids.next() > before
    restarted = JobIds()
    restarted.follow(before)
    assert restarted.next() > before


@pytest.mark.parametrize("of", [None, "0001", "f" * 30, "\0" * 30])
def test_an_invalid_id_is_not_followed(of):
    ids = JobIds()
    ids.follow(of)
    assert abs(int(ids.next()[:14], 16) / 1e6 - time.time()) < 10


@pytest.mark.parametrize("text", ["", "0" * 29, "0" * 31, "0" * 29 + "G", "0" * 29 + "\0", "0" * 30 + "\n", "é" * 30])
def test_is_job_id_rejects_invalid_ids(text):
    assert not is_job_id(text)
