"""Opens the database of a data folder, and recovers from an unclean shutdown or a damaged database."""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ..blobs import BlobStore
from .archive import Archive
from .clock import AgeClock
from .connections import Connections
from .database import SchemaError, migrate, ownership
from .errors import ObjectStoreError, reason_of
from .folder import DataFolder, DataFolderError, remove_leftovers
from .ids import JobIds
from .job import Job
from .ownership import Claim, claim

if TYPE_CHECKING:
    from .objects.checkpoints import ObjectCheckpoints

log = logging.getLogger(__name__)

# Seconds that a starting server waits for its database.
_OPEN_TIMEOUT = 10.0


@dataclass(frozen=True)
class OpenedDatabase:
    """What a server needs from a database that it has opened.

    Attributes:
        jobs: the unfinished jobs, in the order to run them.
        clock: continues from its last reading in the database.
        alone: whether no other server uses the folder, so that files without a row are left over.
    """

    jobs: list[Job]
    clock: AgeClock
    alone: bool


class DatabaseOpener:
    """Opens a database. All methods block.

    Args:
        in_folder: whether the database is the SQLite file in the data folder.
        take: whether to take a database that belongs to another folder.

    Attributes:
        copies: the copies of checkpoints in an object store; None without one.
    """

    copies: "ObjectCheckpoints | None" = None

    def __init__(
        self,
        engine: sa.Engine,
        connections: Connections,
        folder: DataFolder,
        files: BlobStore,
        archive: Archive,
        ids: JobIds,
        *,
        in_folder: bool,
        take: bool,
    ) -> None:
        self._engine = engine
        self._connections = connections
        self._folder = folder
        self._files = files
        self._archive = archive
        self._ids = ids
        self._in_folder = in_folder
        self._take = take

    def open(self) -> OpenedDatabase:
        """Opens the database; retries for some seconds while it is starting or locked.

        Raises:
            DataFolderError: the database cannot be used.
        """
        deadline = time.monotonic() + _OPEN_TIMEOUT
        while True:
            try:
                return self._open_or_replace()
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise DataFolderError(f"the database of jobs cannot be used: {reason_of(error)}") from error
                log.warning("the database of jobs cannot be used yet: %s", reason_of(error))
            except ObjectStoreError as error:
                if error.lasting or time.monotonic() > deadline:
                    where = f"{reason_of(error)} ({error.filename})" if error.filename else reason_of(error)
                    raise DataFolderError(
                        f"the files of jobs cannot be kept in {self._folder.files}: {where}; correct --files, or the "
                        "variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
                    ) from error
                log.warning("the files of jobs cannot be used yet: %s", reason_of(error))
            time.sleep(1.0)

    def _open_or_replace(self) -> OpenedDatabase:
        """Opens the database; a damaged SQLite file in the folder is renamed and a new one is created."""
        try:
            return self._open_database()
        except (sa.exc.DatabaseError, SchemaError) as error:
            if isinstance(error, sa.exc.OperationalError):
                raise
            # Only DatabaseError itself means a damaged file; its subclasses mean errors of statements.
            if type(error) is not sa.exc.DatabaseError or not self._in_folder:
                raise DataFolderError(f"the database of jobs cannot be used: {reason_of(error)}") from error
            # The file is damaged: rename it, and the folder of blobs that it refers to, instead of deleting them.
            suffix = f".damaged-{int(time.time())}"
            aside = self._folder.database.with_suffix(suffix)
            log.error(
                "the database of jobs is damaged (%s): renamed to %s, its files to %s; a new database is created",
                reason_of(error), aside, self._folder.blobs.with_suffix(suffix),
            )  # fmt: skip
            self._engine.dispose()
            self._folder.database.rename(aside)
            self._folder.blobs.rename(self._folder.blobs.with_suffix(suffix))
            self._folder.blobs.mkdir()
            for name in ("-wal", "-shm"):
                self._folder.database.with_name(self._folder.database.name + name).unlink(missing_ok=True)
            return self._open_database()

    def _open_database(self) -> OpenedDatabase:
        if self._engine.dialect.name == "sqlite":
            self._check_database()
        migrate(self._engine)
        # Claim the database before changing anything that may belong to another server.
        return self._take_possession()

    def _check_database(self) -> None:
        """Reads the whole SQLite file, unless it is as the last server left it after a regular end.

        Raises:
            sqlalchemy.exc.DatabaseError: it is damaged.
        """
        if self._in_folder and self._folder.take_seal():
            return
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise sa.exc.DatabaseError("PRAGMA quick_check", None, Exception(found))

    def _take_possession(self) -> OpenedDatabase:
        """Claims the database for this server alone, and removes what an earlier server has left."""
        mine = self._claim(joins=False)
        self._archive.transactions.rights = mine
        self._make_ready()
        jobs = self._archive.unfinished()
        self._remove_leftovers(frozenset(job.id for job in jobs), alone=True)
        return OpenedDatabase(jobs, AgeClock(mine.last), alone=True)

    def _remove_leftovers(self, unfinished: frozenset[str], *, alone: bool) -> None:
        """Removes what earlier servers have left in the folder and, if no other server runs, in the object store."""
        remove_leftovers(self._folder, unfinished)
        if alone and self.copies is not None:
            self.copies.remove_unknown(unfinished)

    def _claim(self, *, joins: bool) -> Claim:
        return claim(
            self._engine, self._folder, in_folder=self._in_folder, take=self._take, check=self._check_pictures,
            joins=joins,
        )  # fmt: skip

    def _make_ready(self) -> None:
        self._connections.database_exists = True
        with self._engine.connect() as connection:
            database: str = connection.execute(sa.select(ownership.c.database_id)).scalar_one()
        self._files.bind(database, take=self._take)
        self._files.make()
        self._ids.follow(self._archive.latest())

    def _check_pictures(self) -> None:
        """Checks that the folder of blobs is not empty if the database has files; skipped for a database to take.

        Raises:
            DataFolderError: the folder is empty, such as an unmounted volume.
        """
        if not self._take and self._archive.stored.has_files() and self._files.empty():
            raise DataFolderError(
                "the pictures of the jobs in the database are missing: "
                f"{self._folder.files or self._folder.blobs} is empty; restore it (is "
                "it an unmounted volume?), or create any file in it to continue without the pictures"
            )
