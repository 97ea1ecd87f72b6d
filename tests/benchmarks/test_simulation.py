"""The simulation of a cluster, compared with the formulas of queueing theory."""

import math
import random

import pytest

from benchmarks.simulation.cluster import FLUSH_EVERY, RENEW_EVERY, Cluster, Outcome, Transactions, simulate

MEAN = 10.0
"""Mean running time of a job in seconds."""


def erlang_c(servers: int, load: float) -> float:
    """The probability that a job waits in an M/M/c queue (Erlang 1917); `load` is arrivals times mean running time."""
    waiting = load**servers / math.factorial(servers) * servers / (servers - load)
    return waiting / (sum(load**n / math.factorial(n) for n in range(servers)) + waiting)


def exponential(rng: random.Random) -> float:
    return rng.expovariate(1 / MEAN)


def simulated(workers: int, share: float, jobs: int, *, warm_up: float = 1000 * MEAN, **changed) -> Outcome:
    """A cluster whose workers are busy for a share of the time, without the costs of a database."""
    arrivals = share * workers / MEAN
    cluster = Cluster(workers, arrivals, **{"service": exponential, **changed})
    return simulate(cluster, jobs / arrivals, warm_up=warm_up)


@pytest.mark.parametrize(("workers", "share"), [(1, 0.5), (2, 0.8), (8, 0.9)])
def test_waits_are_those_of_an_m_m_c_queue(workers, share):
    found = simulated(workers, share, jobs=80_000)
    load = share * workers
    delayed = erlang_c(workers, load)
    assert found.mean_wait == pytest.approx(delayed * MEAN / (workers - load), rel=0.12)
    assert sum(wait > 0 for wait in found.waits) / len(found.waits) == pytest.approx(delayed, rel=0.05)
    assert found.running == pytest.approx(share, rel=0.02)
    assert found.ended == pytest.approx(load / MEAN, rel=0.02)


def test_waits_for_jobs_of_equal_length_are_those_of_an_m_d_1_queue():
    found = simulated(1, 0.8, jobs=60_000, service=lambda _: MEAN)
    # Pollaczek-Khinchine.
    assert found.mean_wait == pytest.approx(0.8 * MEAN / (2 * (1 - 0.8)), rel=0.1)


def test_the_database_is_busy_for_the_time_of_its_transactions():
    needs = Transactions(submit=0.2, claim=0.3, start=0.1, end=0.4, latency=0.05)
    found = simulated(20, 0.5, jobs=10_000, warm_up=20 * MEAN, transactions=needs, processors=4, queue_lock=False)
    assert found.database == pytest.approx(0.5 * 20 / MEAN * (0.2 + 0.3 + 0.1 + 0.4) / 4, rel=0.03)
    # A job waits at least for its submission and its claim.
    assert min(found.waits) == pytest.approx(0.2 + 0.3 + 2 * 0.05)


def test_progress_is_counted_and_costs_time():
    needs = Transactions(flush=0.01, event=0.02, renew=0.001)
    found = simulated(4, 0.5, jobs=5_000, service=lambda _: MEAN, transactions=needs, workers_per_front=4)
    # A job of ten seconds reports twice per second.
    events = 2 * 0.5 * 4
    assert found.events == pytest.approx(events, rel=0.05)
    # A front writes once in two seconds, but not while it has no jobs.
    most = 0.02 * events + 0.01 / FLUSH_EVERY + 0.001 / RENEW_EVERY
    assert 0.9 * most < found.database < 1.01 * most


def test_the_lock_of_the_queue_limits_the_jobs_per_second():
    needs = Transactions(claim=0.1, latency=0.4)
    overloaded = simulated(100, 0.5, jobs=4_000, warm_up=20 * MEAN, transactions=needs, processors=10)
    assert overloaded.ended == pytest.approx(1 / 0.5, rel=0.05)
    assert overloaded.locked == pytest.approx(1, rel=0.01)
    assert overloaded.growth == pytest.approx(0.5 * 100 / MEAN - 1 / 0.5, rel=0.1)
    free = simulated(
        100, 0.5, jobs=4_000, warm_up=20 * MEAN, transactions=needs, processors=10, queue_lock=False
    )  # fmt: skip
    assert free.mean_wait < 1
    assert free.locked == 0
