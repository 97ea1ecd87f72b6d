"""Storage quotas: evicts files of the client itself for its own quota, and of the largest client for the total."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..settings import StorageSettings
from .database import jobs, uploads
from .holdings import Holdings, all_bytes, held_bytes, read_holdings
from .removal import delete_jobs, delete_uploads

log = logging.getLogger(__name__)

# Eviction goes down to this fraction of the quota, so that the slow scan of all files is rare.
_LOW = 0.95
# Seconds after which the bytes are counted again in a cluster.
_COUNT_EVERY = 60.0
# Jobs that are deleted at once.
_BATCH = 500
# Seconds by which the last use of an upload may be in the future.
_MAX_AHEAD = 3600.0


class QuotaExceededError(Exception):
    """A client's files do not fit beside the files that cannot be evicted; the message says how much is used.

    Attributes:
        retry_after: seconds after which some jobs may have ended and freed space.
    """

    retry_after = 60.0


@dataclass(frozen=True)
class Retention:
    """How long ended jobs are kept, and the quotas of files.

    Attributes:
        seconds: time after which an ended job is deleted.
        bytes: quota of all files.
        bytes_per_client: quota of one client's files, of jobs and uploads; None for no quota of its own.
        uploads_per_client: maximum number of one client's uploads.
    """

    seconds: float = StorageSettings.keep_days * 24 * 3600
    bytes: int = StorageSettings.keep
    bytes_per_client: int | None = None
    uploads_per_client: int = StorageSettings.max_uploads_per_client

    @property
    def client_quota(self) -> int:
        """Maximum bytes of one client's files."""
        return self.bytes if self.bytes_per_client is None else min(self.bytes, self.bytes_per_client)


class UseBounds:
    """Upper bounds of the bytes that each client and all together use, so that few additions count the rows.

    Files that several jobs have are counted once for each, and deleted ones stay counted; the next count corrects that.
    In a cluster, files that other fronts add are missing until the next count, after at most `_COUNT_EVERY` seconds.

    Attributes:
        lasting: whether no other server adds files, so that the bounds need not be counted again while they suffice.
    """

    def __init__(self) -> None:
        self._bounds: dict[str | None, int] = {}
        self._counted: dict[str | None, float] = {}
        self.lasting = False

    def add(self, owner: str, size: int) -> None:
        """Adds the bytes of a client's files."""
        for key in (owner, None):
            if key in self._bounds:
                self._bounds[key] += size

    def of(self, key: str | None, size: int, limit: int, count: Callable[[], int]) -> int:
        """Returns a bound of the bytes with some more; counts them if the bound exceeds the limit or is too old.

        Args:
            key: the client; None for all.
            size: bytes to be added.
            count: returns the bytes without those to be added.
        """
        is_fresh = key in self._bounds and (self.lasting or time.monotonic() - self._counted[key] < _COUNT_EVERY)
        if not (is_fresh and self._bounds[key] + size <= limit):
            self._bounds[key], self._counted[key] = count(), time.monotonic()
        return self._bounds[key] + size


def make_room(
    connection: sa.Connection,
    owner: str,
    sizes: Mapping[str, int],
    retention: Retention,
    bounds: UseBounds,
    *,
    is_upload: bool,
) -> bool:
    """Evicts what is needed to store a client's files; returns whether anything was evicted.

    Args:
        sizes: bytes of each file, by name; the client may have some of them already.
        bounds: what the clients use at most.
        is_upload: whether the files become an upload instead of files of a job.

    Raises:
        QuotaExceededError: the files do not fit even after eviction.
    """
    made = is_upload and _delete_oldest_uploads(connection, owner, retention.uploads_per_client - 1)
    size, quota = sum(sizes.values()), retention.client_quota
    total = bounds.of(None, size, retention.bytes, lambda: all_bytes(connection, sizes))

    def count_own() -> int:
        # A client uses at most what all use.
        return total - size if total <= quota else held_bytes(connection, owner, sizes)

    own = bounds.of(owner, size, quota, count_own)
    if own <= quota and total <= retention.bytes:
        bounds.add(owner, size)
        return made
    holdings = read_holdings(connection, owner, sizes)
    if own > quota:
        holdings.shrink_client(owner, int(_LOW * retention.client_quota))
    if holdings.held(owner) > retention.client_quota:
        raise QuotaExceededError(
            f"The storage quota is exceeded: with your unfinished jobs the files take {_size(holdings.held(owner))}, "
            f"and one client may use {_size(retention.client_quota)}; send less, cancel jobs, or wait until jobs end."
        )
    if holdings.total > retention.bytes:
        holdings.shrink(int(_LOW * retention.bytes))
    if holdings.total > retention.bytes:
        raise QuotaExceededError(
            f"The storage quota is exceeded: with all unfinished jobs the files take {_size(holdings.total)}, and the "
            f"server may use {_size(retention.bytes)}; wait until jobs end."
        )
    _delete_evicted(connection, holdings)
    return True


def delete_old(
    connection: sa.Connection, now: float, retention: Retention, uploads_last: float, bounds: UseBounds
) -> bool:
    """Deletes jobs and uploads that are too old, and evicts more if all files exceed the quota.

    Args:
        now: seconds since the epoch.
        uploads_last: seconds that uploads are kept after their last use.
        bounds: what the clients use at most.

    Returns:
        whether more jobs may be too old: a call deletes at most `_BATCH` of them.
    """
    old = sa.select(jobs.c.id).where(jobs.c.end_time < now - retention.seconds).order_by(jobs.c.end_time).limit(_BATCH)
    gone: Sequence[str] = connection.execute(old).scalars().all()
    if gone:
        log.info("deleting %d jobs that ended long ago", len(gone))
        delete_jobs(connection, jobs.c.id.in_(gone))
    delete_uploads(connection, uploads.c.used < now - uploads_last)
    # Correct uses that were recorded while the system clock was ahead.
    connection.execute(uploads.update().where(uploads.c.used > now + _MAX_AHEAD).values(used=now))
    if bounds.of(None, 0, retention.bytes, lambda: all_bytes(connection)) > retention.bytes:
        holdings = read_holdings(connection)
        holdings.shrink(retention.bytes)
        _delete_evicted(connection, holdings)
    return len(gone) == _BATCH


def _delete_oldest_uploads(connection: sa.Connection, owner: str, limit: int) -> bool:
    """Deletes a client's least recently used uploads above `limit`; returns whether any were deleted."""
    mine = sa.select(uploads.c.sha256).where(uploads.c.owner == owner)
    oldest: Sequence[str] = connection.execute(mine.order_by(uploads.c.used.desc()).offset(limit)).scalars().all()
    if oldest:
        delete_uploads(connection, uploads.c.owner == owner, uploads.c.sha256.in_(oldest))
    return bool(oldest)


def _delete_evicted(connection: sa.Connection, holdings: Holdings) -> None:
    evicted = holdings.evicted
    ended = [item.key for item in evicted if item.kind == "job"]
    # In batches: databases limit the number of parameters of a statement.
    for start in range(0, len(ended), _BATCH):
        delete_jobs(connection, jobs.c.id.in_(ended[start : start + _BATCH]))
    for item in evicted:
        if item.kind == "upload":
            delete_uploads(connection, uploads.c.owner == item.owner, uploads.c.sha256 == item.key)
    if evicted:
        log.info("evicting %d jobs and %d uploads to make room", len(ended), len(evicted) - len(ended))


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
