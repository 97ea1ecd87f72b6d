"""Stores the files of jobs and uploads together with the database rows that refer to them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import sqlalchemy as sa

from ..blobs import BlobStore
from .clock import ClockReading
from .database import blobs, events, freed, insert_missing, job_blobs, jobs, schema, uploads
from .holdings import all_bytes
from .quotas import Retention, UseBounds, delete_old, make_room
from .removal import take_unused, unknown_blobs
from .transactions import Transactions

# Files that are looked up at once.
_BATCH = 500


class StoredFiles:
    """Keeps each file while a job or an upload uses it. All methods block.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or its contents cannot be used.
    """

    def __init__(self, transactions: Transactions, files: BlobStore, retention: Retention) -> None:
        self._transactions = transactions
        self._files = files
        self._retention = retention
        self._bounds = UseBounds()
        # Names of files that may exist without a row.
        self._orphans: set[str] = set()

    def add_orphans(self, names: Iterable[str]) -> None:
        """Adds files that may exist without a row; the next `remove_unused` removes them."""
        self._orphans.update(names)

    def count(self, owner: str, size: int) -> None:
        """Counts bytes that a client uses without a call of `make_room`, such as those of a result."""
        self._bounds.add(owner, size)

    def register(self, connection: sa.Connection, sizes: dict[str, int]) -> None:
        """Inserts missing rows of files, given their names and sizes in bytes."""
        known: set[str] = set(connection.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(sizes))).scalars())
        fresh = [{"sha256": name, "size": size} for name, size in sorted(sizes.items()) if name not in known]
        if fresh:
            connection.execute(insert_missing(connection, blobs), fresh)

    def link(self, connection: sa.Connection, job_id: str, sizes: dict[str, int], *, is_result: bool) -> None:
        """Inserts rows that link a job to its files, given their names and sizes in bytes."""
        self.register(connection, sizes)
        wanted = sa.select(job_blobs.c.sha256).where(job_blobs.c.job_id == job_id)
        already: set[str] = set(connection.execute(wanted).scalars())
        rows = [{"job_id": job_id, "sha256": n, "is_result": is_result} for n in sizes if n not in already]
        if rows:
            connection.execute(job_blobs.insert(), rows)

    def make_room(self, owner: str, sizes: Mapping[str, int], *, is_upload: bool) -> None:
        """Evicts what is needed to store a client's files, given their sizes in bytes; see `quotas.make_room`.

        Raises:
            QuotaExceededError: the files do not fit even after eviction.
        """
        with self._transactions.writing() as connection:
            self._bounds.lasting = self._transactions.rights.alone
            made = make_room(connection, owner, sizes, self._retention, self._bounds, is_upload=is_upload)
        if made:
            self.remove_unused()

    def delete_old(self, now: ClockReading, uploads_last: float) -> bool:
        """Deletes old jobs and uploads, evicts more if the quota is exceeded, and stores the clock reading.

        Args:
            uploads_last: seconds that uploads are kept after their last use.

        Returns:
            whether more jobs are old: each call deletes a limited number, so that other writes need not wait long.
        """
        with self._transactions.writing() as connection:
            if not self._transactions.rights.may_remove(connection):
                return False
            self._transactions.rights.save_clock(connection, now)
            self._bounds.lasting = self._transactions.rights.alone
            more = delete_old(connection, now.time, self._retention, uploads_last, self._bounds)
        self.remove_unused()
        return more

    def remove_unused(self) -> None:
        """Removes files, with their rows, that deleted jobs and uploads had, and that no other job or upload uses."""
        more = True
        while more:
            with self._transactions.writing() as connection:
                if not self._transactions.rights.may_remove(connection):
                    return
                names, more = take_unused(connection)
                self._orphans |= names
                # Before the commit: afterwards another front may write such a file again.
                self._remove_orphans(connection)

    def find_strays(self) -> list[str]:
        """Returns files that have no row, such as those of a write that was interrupted, or will get one later."""
        found: list[str] = []
        with self._transactions.engine.connect() as connection:
            names = self._files.names()
            while batch := list(islice(names, _BATCH)):
                found += unknown_blobs(connection, batch)
        return found

    def remove_strays(self, names: Sequence[str]) -> None:
        """Removes those of the files that still have no row."""
        with self._transactions.writing() as connection:
            # Between the file and its row, another front keeps files from being removed.
            if self._transactions.rights.may_remove(connection):
                self._files.delete_all(unknown_blobs(connection, names))

    def probe(self) -> None:
        """Checks that the database and the folder of files can be written."""
        with self._transactions.writing() as connection:
            if self._transactions.engine.dialect.name == "postgresql":
                # Check each table: an administrator may have locked a single one.
                names = ", ".join(table.name for table in (jobs, events, blobs, job_blobs, uploads, freed))
                connection.execute(sa.text(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE"))
            connection.execute(schema.update().values(version_num=schema.c.version_num))
        self._files.probe()

    def ping(self) -> None:
        """Runs a quick query."""
        with self._transactions.engine.connect() as connection:
            connection.execute(sa.select(schema.c.version_num)).first()

    def has_files(self) -> bool:
        """Whether the database refers to any file."""
        with self._transactions.engine.connect() as connection:
            return connection.execute(sa.select(blobs.c.sha256).limit(1)).first() is not None

    def check_files(self) -> None:
        """Checks that the folder of files exists."""
        self._files.check()

    def size(self) -> int:
        """Returns the bytes of all files."""
        with self._transactions.engine.connect() as connection:
            return all_bytes(connection)

    def _remove_orphans(self, connection: sa.Connection) -> None:
        if not self._orphans:
            return
        wanted = sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(self._orphans))
        self._orphans -= set(connection.execute(wanted).scalars())
        self._files.check()
        self._files.delete_all(self._orphans)
        self._orphans.clear()
