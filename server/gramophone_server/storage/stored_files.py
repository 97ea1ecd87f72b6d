"""The files of jobs and uploads, and the rows that say who needs them; both go together."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from ..blobs import BlobStore
from .clock import Reading
from .database import blobs, events, job_blobs, jobs, schema, uploads
from .holdings import all_bytes
from .quotas import Retention, forget_old, make_room
from .transactions import Transactions


class StoredFiles:
    """Keeps a file for as long as a job or an upload needs it. Everything here blocks.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or what is on it cannot be used.
    """

    def __init__(self, transactions: Transactions, files: BlobStore, retention: Retention) -> None:
        self._transactions = transactions
        self._files = files
        self._retention = retention
        # Names of files that may be there without a row.
        self._left: set[str] = set()

    def leave(self, names: Iterable[str]) -> None:
        """Notes files that may be there without a row, to be removed with the next sweep."""
        self._left.update(names)

    def count(self, connection: sa.Connection, sizes: dict[str, int]) -> None:
        """Sees that files have a row, by their names and sizes in bytes."""
        known: set[str] = set(connection.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(sizes))).scalars())
        fresh = [{"sha256": name, "size": size} for name, size in sizes.items() if name not in known]
        if fresh:
            connection.execute(blobs.insert(), fresh)

    def refer(self, connection: sa.Connection, job_id: str, sizes: dict[str, int], *, is_result: bool) -> None:
        """Keeps that a job needs files, by their names and sizes in bytes."""
        self.count(connection, sizes)
        wanted = sa.select(job_blobs.c.sha256).where(job_blobs.c.job_id == job_id)
        already: set[str] = set(connection.execute(wanted).scalars())
        rows = [{"job_id": job_id, "sha256": n, "is_result": is_result} for n in sizes if n not in already]
        if rows:
            connection.execute(job_blobs.insert(), rows)

    def make_room(self, owner: str, sizes: Mapping[str, int], *, is_upload: bool) -> None:
        """Has there be room for files of a client, by their sizes in bytes.

        Raises:
            QuotaExceededError: there is none beside what has to stay.
        """
        with self._transactions.writing() as connection:
            made = make_room(connection, owner, sizes, self._retention, is_upload=is_upload)
        if made:
            self.sweep()

    def forget(self, now: Reading, uploads_last: float) -> None:
        """Forgets what is old at a time and more than there is room for. Keeps the time.

        Args:
            uploads_last: seconds after their last use for which uploads are kept.
        """
        with self._transactions.writing() as connection:
            if self._transactions.claim is not None:
                self._transactions.claim.note(connection, now)
            forget_old(connection, now.time, self._retention, uploads_last)
        self.sweep()

    def sweep(self) -> None:
        """Forgets the files that nothing refers to."""
        with self._transactions.writing() as connection:
            used = sa.union(sa.select(job_blobs.c.sha256), sa.select(uploads.c.sha256))
            names: Sequence[str] = (
                connection.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.not_in(used))).scalars().all()
            )
            connection.execute(blobs.delete().where(blobs.c.sha256.in_(names)))
        self._left.update(names)
        self._remove_left()

    def remove_strays(self) -> None:
        """Removes files that no row names: those of a write that was cut off before its row."""
        with self._transactions.engine.connect() as connection:
            known: set[str] = set(connection.execute(sa.select(blobs.c.sha256)).scalars())
        for name in list(self._files.names()):
            if name not in known:
                self._files.delete(name)

    def probe(self) -> None:
        """Sees that the database and the folder of files can be written."""
        with self._transactions.writing() as connection:
            if self._transactions.engine.dialect.name == "postgresql":
                # Whoever works on a table keeps us from it, and not from the others.
                names = ", ".join(table.name for table in (jobs, events, blobs, job_blobs, uploads))
                connection.execute(sa.text(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE"))
            connection.execute(schema.update().values(version_num=schema.c.version_num))
        self._files.probe()

    def look(self) -> None:
        """Looks at the database: quick, if it answers at all."""
        with self._transactions.engine.connect() as connection:
            connection.execute(sa.select(schema.c.version_num)).first()

    def has_files(self) -> bool:
        """Whether any file should be there."""
        with self._transactions.engine.connect() as connection:
            return connection.execute(sa.select(blobs.c.sha256).limit(1)).first() is not None

    def check_files(self) -> None:
        """Sees that the folder of files is there."""
        self._files.check()

    def size(self) -> int:
        """Bytes of all files together."""
        with self._transactions.engine.connect() as connection:
            return all_bytes(connection)

    def _remove_left(self) -> None:
        """Removes the files that have been left without a row."""
        if not self._left:
            return
        with self._transactions.engine.connect() as connection:
            wanted = sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(self._left))
            self._left -= set(connection.execute(wanted).scalars())
        self._files.check()
        for name in list(self._left):
            self._files.delete(name)
            self._left.discard(name)
