"""Opens the database of a data folder, whatever state a server before has left both in."""

import logging
import time
from dataclasses import dataclass

import sqlalchemy as sa

from ..blobs import BlobStore
from .archive import Archive
from .clock import AgeClock
from .connections import Lines
from .database import SchemaError, migrate
from .errors import reason_of
from .folder import DataFolder, DataFolderError, remove_leftovers
from .ids import JobIds
from .job import Job
from .ownership import claim

log = logging.getLogger(__name__)

# Seconds for which a server that starts waits for its database.
_START = 10.0


@dataclass(frozen=True)
class Opened:
    """A database that has been opened.

    Attributes:
        jobs: those that have not ended, in the order to run them.
        clock: goes on from what it showed the server before.
    """

    jobs: list[Job]
    clock: AgeClock


class Opening:
    """Opens a database. Everything here blocks.

    Args:
        in_folder: whether it is the SQLite in the folder.
        take: whether to take a database that belongs to another folder.
    """

    def __init__(
        self,
        engine: sa.Engine,
        lines: Lines,
        folder: DataFolder,
        files: BlobStore,
        archive: Archive,
        ids: JobIds,
        *,
        in_folder: bool,
        take: bool,
    ) -> None:
        self._engine = engine
        self._lines = lines
        self._folder = folder
        self._files = files
        self._archive = archive
        self._ids = ids
        self._in_folder = in_folder
        self._take = take

    def open(self) -> Opened:
        """Opens the database, and waits a little for one that is about to be started or is locked.

        Raises:
            DataFolderError: it cannot be used.
        """
        deadline = time.monotonic() + _START
        while True:
            try:
                return self._open_or_put_aside()
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise DataFolderError(f"the database of jobs cannot be used: {reason_of(error)}") from error
                log.warning("the database of jobs cannot be used yet: %s", reason_of(error))
            time.sleep(1.0)

    def _open_or_put_aside(self) -> Opened:
        try:
            return self._open_database()
        except (sa.exc.DatabaseError, SchemaError) as error:
            if isinstance(error, sa.exc.OperationalError):
                raise
            # Its subclasses say that a statement was wrong, and nothing of the file.
            if type(error) is not sa.exc.DatabaseError or not self._in_folder:
                raise DataFolderError(f"the database of jobs cannot be used: {reason_of(error)}") from error
            # The file is no database any more. It is put aside with the files that it names, not thrown away.
            suffix = f".damaged-{int(time.time())}"
            aside = self._folder.database.with_suffix(suffix)
            log.error(
                "the database of jobs is damaged (%s): it is now %s, its files are in %s, and a new one is begun",
                reason_of(error), aside, self._folder.blobs.with_suffix(suffix),
            )  # fmt: skip
            self._engine.dispose()
            self._folder.database.rename(aside)
            self._folder.blobs.rename(self._folder.blobs.with_suffix(suffix))
            self._folder.blobs.mkdir()
            for name in ("-wal", "-shm"):
                self._folder.database.with_name(self._folder.database.name + name).unlink(missing_ok=True)
            return self._open_database()

    def _open_database(self) -> Opened:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise sa.exc.DatabaseError("PRAGMA quick_check", None, Exception(found))
        migrate(self._engine)
        # Before anything is touched that may be another server's.
        mine = claim(self._engine, self._folder, in_folder=self._in_folder, take=self._take, check=self._check_pictures)
        self._archive.transactions.claim = mine
        self._lines.made = True
        self._files.make()
        self._ids.follow(self._archive.latest())
        jobs = self._archive.unfinished()
        remove_leftovers(self._folder, frozenset(job.id for job in jobs))
        self._archive.stored.remove_strays()
        return Opened(jobs, AgeClock(mine.last))

    def _check_pictures(self) -> None:
        """Sees that the files of a database that is not taken from elsewhere are there."""
        if not self._take and self._archive.stored.has_files() and self._files.empty():
            raise DataFolderError(
                f"the pictures of the jobs in the database are not in {self._folder.blobs}, which is empty; bring them "
                "back (is it a mount?), or put any file there to go on without them"
            )
