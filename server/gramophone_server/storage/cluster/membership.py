"""The membership of a front in a cluster: a row in the database that the front renews, and that others may delete.

All leases of a front depend on its row. Every write transaction of the front locks the row against deletion, so a front
whose row is gone can write nothing more (Gray & Cheriton 1989, "Leases: An Efficient Fault-Tolerant Mechanism").
"""

import contextlib
import logging
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa

from ..clock import ClockReading
from ..connections import end_connections
from ..database import fronts, jobs, ownership
from ..folder import DataFolder
from ..ownership import Claim
from ..rights import Rights
from .notices import notify
from .requeue import requeue

log = logging.getLogger(__name__)

# Keys of PostgreSQL's advisory locks: any two numbers that all fronts share.
_FILES, QUEUE, _JOIN = 0x6772616D70, 0x6772616D71, 0x6772616D72
# Milliseconds to wait for other fronts: in a transaction, and for one that removes files before it joins.
_PATIENCE, _JOIN_PATIENCE = 5000, 60_000
# Seconds by the clock of the database, which all fronts share.
_NOW = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)
# Seconds since the database started.
_UP = sa.cast(sa.extract("epoch", sa.func.clock_timestamp() - sa.func.pg_postmaster_start_time()), sa.Float)


class StaleLeaseError(OSError):
    """Other fronts have taken over the leases of this one, because it has not renewed them in time."""

    def __init__(self) -> None:
        super().__init__("this server has lost its leases to other servers and joins them again")


@dataclass(frozen=True)
class Membership(Rights):
    """A front of a cluster, until its row is deleted.

    Attributes:
        token: fencing token, higher than that of every front that joined before.
        lease: seconds for which a renewal is valid.
    """

    alone: ClassVar[bool] = False
    token: int
    lease: float

    def check(self, connection: sa.Connection) -> None:
        """Checks that the row of this front exists, and keeps it from being deleted until the transaction ends.

        The renewal of the row does not wait for this lock.

        Raises:
            StaleLeaseError: the row is gone.
        """
        mine = sa.select(fronts.c.token).where(fronts.c.token == self.token)
        if connection.execute(mine.with_for_update(read=True, key_share=True)).first() is None:
            raise StaleLeaseError

    def save_clock(self, connection: sa.Connection, reading: ClockReading) -> None:
        """Stores a clock reading in the database."""
        connection.execute(ownership.update().values(seen=reading.time, doubted=reading.doubted))

    def owned(self) -> sa.ColumnElement[bool]:
        """Returns the condition on rows of jobs that this front leases."""
        return jobs.c.front == self.token

    def keep_files(self, connection: sa.Connection) -> None:
        """Keeps other fronts from removing files until the end of a transaction that writes files and their rows."""
        wait_longer(connection)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_FILES)))

    def may_remove(self, connection: sa.Connection) -> bool:
        """Returns whether unused files may be removed until the end of the transaction: no other front writes any."""
        return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_FILES))).scalar())

    def announce(self, connection: sa.Connection, notice: str) -> None:
        """Sends a notice to all fronts when the transaction commits."""
        notify(connection, notice)


def wait_longer(connection: sa.Connection) -> None:
    """Lets a transaction wait for the locks of busy fronts longer than for those of other programs."""
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {_PATIENCE}"))


@contextlib.contextmanager
def joining(engine: sa.Engine) -> Iterator[None]:
    """Keeps other fronts of a cluster from joining while the block runs. Blocks.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be used, or another front takes very long to join.
    """
    # Not a transaction, which the database would end while the front removes many files.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # The lock and its timeout end with the connection.
        connection.detach()
        connection.execute(sa.text(f"SET lock_timeout = {_JOIN_PATIENCE}"))
        connection.execute(sa.select(sa.func.pg_advisory_lock(_JOIN)))
        yield


def join(engine: sa.Engine, mine: Claim, folder: DataFolder, lease: float) -> Membership:
    """Adds a front that has just claimed the database.

    Jobs that no living front runs, such as those of a server that ran alone before, go back to the queue.
    """
    member = Membership(mine.fence, lease)
    with engine.begin() as connection:
        connection.execute(
            fronts.insert().values(
                token=member.token, host=socket.gethostname(), staging=folder.staging.name, since=_NOW,
                expires=_NOW + lease,
            )
        )  # fmt: skip
        requeue(connection, orphaned=True)
    log.info("this server is front %d of the cluster", member.token)
    return member


def renew(engine: sa.Engine, member: Membership) -> bool:
    """Renews the leases of a front by the clock of the database; returns False if its row is gone.

    A front whose leases have expired may renew them as long as no other front has taken them over.
    """
    mine = fronts.update().where(fronts.c.token == member.token)
    with engine.begin() as connection:
        return connection.execute(mine.values(expires=_NOW + member.lease)).rowcount > 0


def leave(engine: sa.Engine, member: Membership) -> None:
    """Removes a front that stops; its jobs go back to the queue at once."""
    with engine.begin() as connection:
        if connection.execute(fronts.delete().where(fronts.c.token == member.token)).rowcount:
            requeue(connection, member.token)


def take_over_expired(engine: sa.Engine, member: Membership, folder: DataFolder) -> int:
    """Removes fronts whose leases have expired, and puts their jobs back into the queue; returns how many fronts.

    After a restart of the database, all fronts have the time of a lease to renew theirs.

    An expired front that is writing is not removed yet: it may be about to renew its leases. If it is still expired
    after the time of another lease, its connections end, so that the next call removes it. Otherwise a front that was
    cut off while it sent a statement would keep its row for ever: PostgreSQL does not count the time in which it waits
    for the rest of a statement, or of a pipeline of several, as idle.
    """
    expired = _expired(member, 0.0)
    with engine.begin() as connection:
        # Fronts that are writing at this moment, or that another front is removing, are skipped.
        rows: list[Any] = list(connection.execute(expired.with_for_update(skip_locked=True)).mappings())
        removed = {row["token"] for row in rows}
        for row in connection.execute(_expired(member, member.lease)).mappings():
            if row["token"] not in removed:
                end_connections(connection, name_in_database(row["staging"]))
        if rows:
            member.check(connection)
        for row in rows:
            connection.execute(fronts.delete().where(fronts.c.token == row["token"]))
            count = requeue(connection, row["token"])
            log.warning("front %d on %s is gone; %d jobs go back to the queue", row["token"], row["host"], count)
    for row in rows:
        shutil.rmtree(folder.staging.with_name(row["staging"]), ignore_errors=True)
    return len(rows)


def _expired(member: Membership, seconds: float) -> sa.Select[Any]:
    """Returns the query for other fronts that could have renewed their expired leases for more than `seconds`.

    They cannot while the database is away, and have the time of a lease after its start.
    """
    return sa.select(fronts).where(
        fronts.c.token != member.token, fronts.c.expires + seconds < _NOW, member.lease + seconds < _UP
    )


def name_in_database(staging: str) -> str:
    """Returns the name by which other fronts find the connections of a front.

    Args:
        staging: name of the front's folder of staged pictures, which no other front has.
    """
    return f"gramophone-{staging}"


def others(engine: sa.Engine, member: Membership) -> int:
    """Returns the number of other fronts."""
    wanted = sa.select(sa.func.count()).select_from(fronts).where(fronts.c.token != member.token)
    with engine.connect() as connection:
        return int(connection.execute(wanted).scalar_one())
