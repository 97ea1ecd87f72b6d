"""The measurement of transactions on a real PostgreSQL."""

import dataclasses

import pytest

from benchmarks.simulation.database import costs, measure


@pytest.mark.service
def test_all_transactions_of_a_job_are_measured():
    measured = measure(jobs=16)
    assert measured["computing"].keys() == measured["begin_to_end"].keys()
    for name, computing in measured["computing"].items():
        assert 0 < computing < 1, name
    # Eight events in one transaction cost less than eight transactions.
    assert measured["computing"]["write, 8 events"] < 8 * measured["computing"]["write, 1 event"]
    found = dataclasses.asdict(costs(measured))
    assert all(value > 0 for name, value in found.items() if name not in ("flush", "event")), found
