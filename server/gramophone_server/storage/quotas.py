"""Who may keep how much: room is made from what its client holds, and else from what the largest holds."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..settings import StorageSettings
from .database import jobs, uploads
from .holdings import Holdings, all_bytes, held_bytes, read_holdings

log = logging.getLogger(__name__)

# Where something has to go, a little more goes, as looking at everything takes time: down to this part of the bound.
_LOW = 0.95
# Seconds by which a use may be ahead of the time.
_AHEAD = 3600.0


class QuotaExceededError(Exception):
    """There is no room for a client's files beside those that have to stay; the message says how much is taken.

    Attributes:
        retry_after: when jobs may have ended that need the room; seconds.
    """

    retry_after = 60.0


@dataclass(frozen=True)
class Retention:
    """How long ended jobs are kept, and how much room there is for files.

    Attributes:
        seconds: after which an ended job is forgotten.
        bytes: of all files together.
        bytes_per_client: of the files of one client's jobs and uploads; None for no bound of its own.
        uploads_per_client: uploaded files of one client.
    """

    seconds: float = StorageSettings.keep_days * 24 * 3600
    bytes: int = StorageSettings.keep
    bytes_per_client: int | None = None
    uploads_per_client: int = StorageSettings.max_uploads_per_client

    @property
    def most_of_client(self) -> int:
        """Bytes that one client may hold."""
        return self.bytes if self.bytes_per_client is None else min(self.bytes, self.bytes_per_client)


def make_room(
    connection: sa.Connection, owner: str, sizes: Mapping[str, int], retention: Retention, *, is_upload: bool
) -> bool:
    """Has there be room for files of a client, some of which he may have already; whether something had to go.

    Args:
        sizes: of the files; bytes.
        is_upload: whether they become an upload; they are of a job else.

    Raises:
        QuotaExceededError: what has to stay leaves too little.
    """
    made = is_upload and _forget_uploads(connection, owner, retention.uploads_per_client - 1)
    own = held_bytes(connection, owner, sizes) + sum(sizes.values())
    total = all_bytes(connection, sizes) + sum(sizes.values())
    if own <= retention.most_of_client and total <= retention.bytes:
        return made
    holdings = read_holdings(connection, owner, sizes)
    if own > retention.most_of_client:
        holdings.fit_client(owner, int(_LOW * retention.most_of_client))
    if holdings.held(owner) > retention.most_of_client:
        raise QuotaExceededError(
            f"There is no room: with the files of your jobs that have not ended it takes {_size(holdings.held(owner))} "
            f"of the {_size(retention.most_of_client)} that this server keeps for one client; send less, cancel some "
            "jobs, or wait until some have ended."
        )
    if holdings.total > retention.bytes:
        holdings.fit(int(_LOW * retention.bytes))
    if holdings.total > retention.bytes:
        raise QuotaExceededError(
            f"There is no room: with the files of jobs that have not ended this takes {_size(holdings.total)} of the "
            f"{_size(retention.bytes)} that this server keeps; wait until some have ended."
        )
    _forget(connection, holdings)
    return True


def forget_old(connection: sa.Connection, now: float, retention: Retention, uploads_last: float) -> None:
    """Forgets what is old at a time, seconds since the epoch, and what goes first where there is too much.

    Args:
        uploads_last: seconds after their last use for which uploads are kept.
    """
    count = connection.execute(jobs.delete().where(jobs.c.end_time < now - retention.seconds)).rowcount
    if count:
        log.info("forgetting %d jobs that ended long ago", count)
    connection.execute(uploads.delete().where(uploads.c.used < now - uploads_last))
    # Used while the clock was wrong.
    connection.execute(uploads.update().where(uploads.c.used > now + _AHEAD).values(used=now))
    if all_bytes(connection) > retention.bytes:
        holdings = read_holdings(connection)
        holdings.fit(retention.bytes)
        _forget(connection, holdings)


def _forget_uploads(connection: sa.Connection, owner: str, most: int) -> bool:
    """Forgets a client's uploads that have not been used for longest, until there are so many; whether there were."""
    mine = sa.select(uploads.c.sha256).where(uploads.c.owner == owner)
    gone: Sequence[str] = connection.execute(mine.order_by(uploads.c.used.desc()).offset(most)).scalars().all()
    if gone:
        connection.execute(uploads.delete().where(uploads.c.owner == owner, uploads.c.sha256.in_(gone)))
    return bool(gone)


def _forget(connection: sa.Connection, holdings: Holdings) -> None:
    ended = [thing.key for thing in holdings.gone if thing.kind == "job"]
    # Not all at once: a statement has some thousand parameters at most.
    for start in range(0, len(ended), 500):
        connection.execute(jobs.delete().where(jobs.c.id.in_(ended[start : start + 500])))
    for thing in holdings.gone:
        if thing.kind == "upload":
            connection.execute(uploads.delete().where(uploads.c.owner == thing.owner, uploads.c.sha256 == thing.key))
    if holdings.gone:
        log.info("there has to be room: forgetting %d jobs and %d uploads", len(ended), len(holdings.gone) - len(ended))


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
