"""The queue of a cluster in the database: which job is next, who leases it, and how it goes back."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...messages.events import State
from ..archive import Archive
from ..database import jobs, shares
from ..errors import AlreadySubmittedError
from ..job import Job
from ..notice import CANCEL, WORK, of_job
from ..store import CheckRoom
from .membership import QUEUE, wait_longer
from .requeue import append
from .shares import charge

_WAITING = jobs.c.end_time.is_(None) & jobs.c.front.is_(None)
_RUNNING = jobs.c.end_time.is_(None) & jobs.c.front.is_not(None)


@dataclass(frozen=True)
class QueueRules:
    """The rules of a queue.

    Attributes:
        running_per_client: maximum running jobs of one client; None for no limit.
        half_life: seconds of device time after which a client's use is halved.
    """

    running_per_client: int | None
    half_life: float


class Leases:
    """Leases jobs to this front. All methods block.

    Raises, from any method that writes:
        StaleLeaseError: this front has lost its leases.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._transactions = archive.transactions

    def admit(self, job: Job, check: CheckRoom, connection: sa.Connection) -> bool:
        """Checks that a job may be added, in the transaction that adds it; returns False if it is there already.

        Args:
            check: is called with the numbers of waiting jobs, by client; raises an error if it may not be added.

        Raises:
            AlreadySubmittedError: another front has just stored the client's job with this request id.
        """
        lock_queue(connection)
        same = jobs.c.id == job.id
        if job.request_id is not None:
            same |= (jobs.c.owner == job.owner) & (jobs.c.request_id == job.request_id)
        stored = connection.execute(sa.select(jobs.c.id).where(same)).scalar()
        if stored == job.id:
            return False  # It was stored, but the connection broke before that was known.
        if stored is not None:
            raise AlreadySubmittedError
        check(waiting_by_owner(connection))
        return True

    def send(self, notices: Collection[str]) -> None:
        """Sends notices to all fronts."""
        with self._transactions.engine.begin() as connection:
            for notice in notices:
                self._transactions.rights.announce(connection, notice)

    def waiting(self) -> dict[str, int]:
        """Returns the number of waiting jobs of each client."""
        with self._transactions.engine.connect() as connection:
            return waiting_by_owner(connection)

    def peek(self, rules: QueueRules, but: Collection[str]) -> Job | None:
        """Returns the next job, without leasing it; None if no waiting job may run.

        Args:
            but: ids of jobs to leave out.
        """
        with self._transactions.engine.connect() as connection:
            job_id: str | None = connection.execute(_next(rules, but)).scalar()
            return self._load(connection, job_id) if job_id else None

    def take(
        self, token: int, rules: QueueRules, but: Collection[str], seconds: float, wanted: str | None
    ) -> Job | None:
        """Leases the next job to this front and returns it; None if there is none, or it is not the wanted one.

        Args:
            token: the token of this front.
            but: ids of jobs to leave out.
            seconds: device time that is charged to its client.
            wanted: id of the only job to take; None for any.
        """
        with self._transactions.writing() as connection:
            lock_queue(connection)
            job_id: str | None = connection.execute(_next(rules, but)).scalar()
            if job_id is None or wanted not in (None, job_id):
                return None
            free = jobs.update().where(jobs.c.id == job_id, _WAITING)
            if not connection.execute(free.values(front=token)).rowcount:
                return None  # A client has just canceled it.
            job = self._load(connection, job_id)
            charge(connection, job.owner, seconds, rules.half_life)
            return job

    def settle(self, owner: str, seconds: float, rules: QueueRules) -> None:
        """Corrects the device time that a client was charged."""
        with self._transactions.writing() as connection:
            lock_queue(connection)
            charge(connection, owner, seconds, rules.half_life)

    def give_back(self, job: Job) -> None:
        """Puts a job of this front back into the queue; its event QUEUED is stored separately before."""
        with self._transactions.writing() as connection:
            mine = jobs.update().where(
                jobs.c.id == job.id, jobs.c.end_time.is_(None), self._transactions.rights.owned()
            )
            connection.execute(
                mine.values(
                    front=None, state=State.QUEUED.value, attempts=job.attempts, losses=job.losses,
                    suspected=job.suspected, squeeze=job.squeeze,
                )
            )  # fmt: skip
            if connection.execute(sa.select(jobs.c.canceled).where(jobs.c.id == job.id)).scalar():
                append(connection, job.id, State.CANCELLED)
            self._transactions.rights.announce(connection, WORK)

    def cancel(self, job_id: str) -> None:
        """Ends a waiting job as canceled; tells the front of a running one."""
        with self._transactions.writing() as connection:
            found = sa.select(jobs.c.front).where(jobs.c.id == job_id, jobs.c.end_time.is_(None))
            row = connection.execute(found.with_for_update()).first()
            if row is None:
                return
            if row.front is None:
                append(connection, job_id, State.CANCELLED)
                return
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(canceled=True))
            self._transactions.rights.announce(connection, of_job(CANCEL, job_id))

    def canceled(self) -> list[str]:
        """Returns the ids of the jobs of this front that clients have canceled."""
        mine = sa.select(jobs.c.id).where(_RUNNING, jobs.c.canceled, self._transactions.rights.owned())
        with self._transactions.engine.connect() as connection:
            return list(connection.execute(mine).scalars())

    def _load(self, connection: sa.Connection, job_id: str) -> Job:
        job = self._archive.load_in(connection, job_id, with_result=False)
        assert job is not None
        kept = sa.select(jobs.c.losses, jobs.c.suspected, jobs.c.squeeze).where(jobs.c.id == job_id)
        row: Any = connection.execute(kept).one()
        job.losses, job.suspected, job.squeeze = row
        return job


def waiting_by_owner(connection: sa.Connection) -> dict[str, int]:
    """Returns the number of waiting jobs of each client."""
    counts = sa.select(jobs.c.owner, sa.func.count()).where(_WAITING).group_by(jobs.c.owner)
    rows: Sequence[Any] = connection.execute(counts).all()
    return dict(tuple(row) for row in rows)


def lock_queue(connection: sa.Connection) -> None:
    """Keeps other fronts from taking, adding and charging jobs until the transaction ends."""
    wait_longer(connection)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(QUEUE)))


def _next(rules: QueueRules, but: Collection[str]) -> sa.Select[Any]:
    """Returns the query for the next job: the order of `FairQueue`, over all fronts."""
    running = sa.select(jobs.c.owner, sa.func.count().label("number")).where(_RUNNING).group_by(jobs.c.owner).subquery()
    oldest = sa.func.min(jobs.c.id).over(partition_by=jobs.c.owner)
    wanted = (
        sa.select(jobs.c.id)
        .outerjoin(shares, shares.c.owner == jobs.c.owner)
        .outerjoin(running, running.c.owner == jobs.c.owner)
        .where(_WAITING, jobs.c.id.not_in(list(but)))
    )
    if rules.running_per_client is not None:
        wanted = wanted.where(sa.func.coalesce(running.c.number, 0) < rules.running_per_client)
    use = sa.func.coalesce(shares.c.used, 0.0)
    return wanted.order_by(use, oldest, jobs.c.attempts == 0, jobs.c.priority.desc(), jobs.c.id).limit(1)
