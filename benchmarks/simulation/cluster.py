"""A cluster as a discrete-event simulation: arriving jobs, one queue, workers, fronts, and their database.

All times are in seconds. The database has some processors; a transaction takes one of them for its computing time, and
lasts longer by its latency, during which it waits for the disk and the network. Transactions that add jobs to the
queue, take them from it, or charge their clients come one after the other: they lock the queue until they end.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from gramophone_server.worker.pace import report_interval

# Seconds between two writes of progress by a front, and between two renewals of its lease.
FLUSH_EVERY, RENEW_EVERY = 2.0, 10.0 / 3

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Transactions:
    """Computing time of the database for each kind of transaction, and the latency of any.

    Attributes:
        submit: storing a new job.
        claim: leasing the next job to a front.
        start: the change of state that follows.
        flush: writing progress, without that of the events.
        event: each event of such a write, with its notice to the other fronts.
        read: reading new events of a job that another front runs.
        end: storing the end of a job.
        settle: correcting the device time that its client was charged.
        renew: renewing the lease of a front.
        latency: the time of a transaction that is not computing time.
    """

    submit: float = 0.0
    claim: float = 0.0
    start: float = 0.0
    flush: float = 0.0
    event: float = 0.0
    read: float = 0.0
    end: float = 0.0
    settle: float = 0.0
    renew: float = 0.0
    latency: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """What is simulated.

    Attributes:
        workers: number of workers, each with one job at a time.
        arrivals: new jobs per second; they arrive independently of each other (a Poisson process).
        service: returns the running time of a job.
        transactions: what the database needs.
        processors: number of processors of the database.
        workers_per_front: workers of each front.
        queue_lock: whether submit, claim and settle come one after the other.
        watched: share of the jobs that a client watches at another front than the one that runs it.
    """

    workers: int
    arrivals: float
    service: Callable[[random.Random], float]
    transactions: Transactions = Transactions()
    processors: int = 1
    workers_per_front: int = 1
    queue_lock: bool = True
    watched: float = 0.0


@dataclass
class Outcome:
    """What was observed after the warm-up.

    Attributes:
        waits: time of each started job from its arrival to its start.
        running: share of the workers' time in which they ran a job.
        database: share of the time in which the database's processors were busy.
        locked: share of the time in which a front held the lock of the queue.
        events: progress events stored per second.
        ended: jobs ended per second.
        growth: change of the number of waiting jobs per second; above 0 the cluster is overloaded.
    """

    waits: list[float] = field(default_factory=list)
    running: float = 0.0
    database: float = 0.0
    locked: float = 0.0
    events: float = 0.0
    ended: float = 0.0
    growth: float = 0.0

    @property
    def mean_wait(self) -> float:
        """Mean waiting time."""
        return sum(self.waits) / max(1, len(self.waits))

    def quantile(self, share: float) -> float:
        """Returns the waiting time that a share of the jobs does not exceed."""
        ranked = sorted(self.waits) or [0.0]
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def simulate(cluster: Cluster, seconds: float, *, warm_up: float = 0.0, seed: int = 0) -> Outcome:
    """Simulates a cluster that starts empty, and returns what happens in the `seconds` after the warm-up."""
    run = _Run(cluster, warm_up, random.Random(seed))
    run.environment.run(until=warm_up)
    before = run.waiting_jobs
    run.environment.run(until=warm_up + seconds)
    run.count_running(0)
    found = run.outcome
    found.running = run.worked / (cluster.workers * seconds)
    found.database = run.computed / (cluster.processors * seconds)
    found.locked = run.locked / seconds
    found.events /= seconds
    found.ended /= seconds
    found.growth = (run.waiting_jobs - before) / seconds
    return found


@dataclass
class _Reports:
    """The reports of a job that have not been written yet.

    Attributes:
        begun: when the job has started.
        end: when it has ended; None while it runs.
        last: when it has reported last.
    """

    begun: float
    end: float | None = None
    last: float = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.begun

    def take(self, now: float) -> int:
        """Returns the number of new reports."""
        count, until = 0, now if self.end is None else self.end
        while (due := self.last + report_interval(self.last - self.begun)) <= until:
            self.last, count = due, count + 1
        return count


class _Run:
    """One run of the simulation."""

    def __init__(self, cluster: Cluster, warm_up: float, rng: random.Random) -> None:
        self.cluster, self.rng, self.warm_up = cluster, rng, warm_up
        self.environment = simpy.Environment()
        self.outcome = Outcome()
        self.worked = self.computed = self.locked = 0.0
        # Number of running jobs, and when it has changed last.
        self._running, self._changed = 0, 0.0
        self._processors = simpy.Resource(self.environment, cluster.processors)
        self._lock = simpy.Resource(self.environment, 1)
        # Arrival times of the waiting jobs; the workers take the oldest first.
        self._queue = simpy.Store(self.environment)
        self._arrived = self._started = 0
        self.environment.process(self._arrivals())
        for first in range(0, cluster.workers, cluster.workers_per_front):
            count = min(cluster.workers_per_front, cluster.workers - first)
            self._start_front(count)

    def count_running(self, change: int) -> None:
        """Changes the number of running jobs, and adds their time since the last change."""
        self.worked += self._running * self._counted(self._changed)
        self._running, self._changed = self._running + change, self.environment.now

    @property
    def waiting_jobs(self) -> int:
        """Number of jobs that have arrived and not started."""
        return self._arrived - self._started

    def _start_front(self, workers: int) -> None:
        # Jobs with reports that have not been written: those that run, and those that have just ended.
        reporting: list[_Reports] = []
        for _ in range(workers):
            self.environment.process(self._work(reporting))
        if self.cluster.transactions != Transactions():
            self.environment.process(self._write_progress(reporting))
            self.environment.process(self._renew())

    def _arrivals(self) -> Process:
        while True:
            yield self.environment.timeout(self.rng.expovariate(self.cluster.arrivals))
            self._arrived += 1
            self.environment.process(self._submit(self.environment.now))

    def _submit(self, arrival: float) -> Process:
        yield from self._locked(self.cluster.transactions.submit)
        yield self._queue.put(arrival)

    def _work(self, reporting: list[_Reports]) -> Process:
        """Claims and runs jobs forever."""
        needs, environment = self.cluster.transactions, self.environment
        while True:
            arrival = yield self._queue.get()
            yield from self._locked(needs.claim)
            begun = environment.now
            self.count_running(1)
            reporting.append(reports := _Reports(begun))
            self._started += 1
            if begun >= self.warm_up:
                self.outcome.waits.append(begun - arrival)
            environment.process(self._transaction(needs.start))
            yield environment.timeout(self.cluster.service(self.rng))
            self.count_running(-1)
            reports.end = environment.now
            environment.process(self._end())

    def _locked(self, computing: float) -> Process:
        """A transaction that holds the lock of the queue until it has been committed."""
        if not (self.cluster.queue_lock and computing):
            yield from self._transaction(computing)
            return
        with self._lock.request() as turn:
            yield turn
            begun = self.environment.now
            yield from self._transaction(computing)
            self.locked += self._counted(begun)

    def _end(self) -> Process:
        yield from self._transaction(self.cluster.transactions.end)
        yield from self._locked(self.cluster.transactions.settle)
        if self.environment.now >= self.warm_up:
            self.outcome.ended += 1

    def _write_progress(self, reporting: list[_Reports]) -> Process:
        needs, environment = self.cluster.transactions, self.environment
        yield environment.timeout(self.rng.uniform(0, FLUSH_EVERY))
        while True:
            counts = [reports.take(environment.now) for reports in reporting]
            reporting[:] = [reports for reports in reporting if reports.end is None]
            if any(counts):
                yield from self._transaction(needs.flush + needs.event * sum(counts))
                if environment.now >= self.warm_up:
                    self.outcome.events += sum(counts)
                for _ in filter(None, counts):
                    if self.rng.random() < self.cluster.watched:
                        environment.process(self._transaction(needs.read))
            yield environment.timeout(FLUSH_EVERY)

    def _renew(self) -> Process:
        yield self.environment.timeout(self.rng.uniform(0, RENEW_EVERY))
        while True:
            yield from self._transaction(self.cluster.transactions.renew)
            yield self.environment.timeout(RENEW_EVERY)

    def _transaction(self, computing: float) -> Process:
        """Runs a transaction; one that needs no computing time is left out."""
        if not computing:
            return
        with self._processors.request() as turn:
            yield turn
            begun = self.environment.now
            yield self.environment.timeout(computing)
            self.computed += self._counted(begun)
        yield self.environment.timeout(self.cluster.transactions.latency)

    def _counted(self, begun: float) -> float:
        """Returns the seconds since `begun`, without those of the warm-up."""
        return max(0.0, self.environment.now - max(begun, self.warm_up))
