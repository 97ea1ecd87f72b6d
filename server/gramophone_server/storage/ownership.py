"""Binds a database to one data folder, and the files of a data folder to one database.

Otherwise two servers on one database would run each other's jobs, and each would delete the other's files as unused.
"""

import json
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ..files import atomic_file
from .clock import ClockReading
from .database import exclusive, fronts, jobs, ownership
from .folder import DataFolder, DataFolderError
from .rights import Rights

log = logging.getLogger(__name__)


class TakenOverError(OSError):
    """Another server has claimed the database; this server may no longer write to it."""

    def __init__(self) -> None:
        super().__init__("the database has been taken over by another server; stop this one")


@dataclass(frozen=True)
class Claim(Rights):
    """A server's ownership of a database, valid until another server claims it.

    Attributes:
        fence: fencing token, higher than that of every earlier server.
        last: the last clock reading stored in the database; None for a new one.
    """

    fence: int
    last: ClockReading | None

    def check(self, connection: sa.Connection) -> None:
        """Checks that this server still owns the database, and locks the ownership until the transaction ends.

        Raises:
            TakenOverError: another server owns it.
        """
        mine = sa.select(ownership.c.one).where(ownership.c.fence == self.fence).with_for_update(read=True)
        if connection.execute(mine).first() is None:
            raise TakenOverError

    def save_clock(self, connection: sa.Connection, reading: ClockReading) -> None:
        """Stores a clock reading in the database."""
        mine = ownership.update().where(ownership.c.fence == self.fence)
        connection.execute(mine.values(seen=reading.time, doubted=reading.doubted))


def claim(
    engine: sa.Engine,
    folder: DataFolder,
    *,
    in_folder: bool,
    take: bool = False,
    check: Callable[[], None] = lambda: None,
    joins: bool = False,
) -> Claim:
    """Claims a database for the server of a data folder, and ends all earlier claims.

    Args:
        in_folder: whether the database is the file in the folder; it then belongs to the folder even after a move or
            copy.
        take: whether to claim the database even if it belongs to another folder, or the folder's files to another
            database.
        check: is called before the database is claimed; an exception leaves the database unchanged.
        joins: whether the fronts of a cluster keep their leases, because this server is one of them.

    Raises:
        DataFolderError: the database belongs to another folder, or the folder's files to another database.
    """
    # The fronts of a cluster whose files are in an object store have folders of their own.
    shares = joins and folder.private
    identity = _Identity.of(folder)
    if shares:
        identity = replace(identity, here=str(folder.files))
    with exclusive(engine) as connection:
        row = connection.execute(sa.select(ownership)).mappings().first()
        is_mine = in_folder or (row is not None and row["folder_id"] == identity.here)
        if row is not None and not is_mine:
            if not take:
                raise DataFolderError(_of_another_folder(row))
            log.warning("the database is taken from the server of %s on %s", row["folder"], row["host"])
        database = "" if in_folder else row["database_id"] if row else secrets.token_hex(16)
        is_new = row is None and connection.execute(sa.select(jobs.c.id).limit(1)).first() is None
        if not (take or shares or (row is not None and is_mine and not in_folder)):
            identity.check(folder, database, is_new=is_new)
        check()
        if not joins:
            connection.execute(fronts.delete())
        fence = _write_row(connection, row, identity, folder, database)
    if not shares:
        identity.save(folder, database)
    return Claim(fence, ClockReading(row["seen"], row["doubted"]) if row else None)


def release(engine: sa.Engine, mine: Claim) -> None:
    """Gives up the ownership, so that the server of any folder may claim the database."""
    with exclusive(engine) as connection:
        connection.execute(ownership.delete().where(ownership.c.fence == mine.fence))


@dataclass(frozen=True)
class _Identity:
    """The identity of a data folder.

    Attributes:
        name: a random id, created with the folder.
        here: the name and the inode of the folder's lock file, so that a copy of the folder has another identity.
        database: id of the database that the folder's files belong to; "" for the database in the folder, None if not
            known.
    """

    name: str
    here: str
    database: str | None

    @classmethod
    def of(cls, folder: DataFolder) -> "_Identity":
        try:
            kept = json.loads(folder.identity.read_text())
            name, database = str(kept["name"]), kept["database"]
        except FileNotFoundError:
            name, database = secrets.token_hex(16), None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{folder.identity} cannot be read ({error}); restore it, or move it away and use --take-database"
            raise DataFolderError(reason) from error
        here = f"{name}-{folder.lock.stat().st_ino}"
        return cls(name, here, None if database is None else str(database))

    def check(self, folder: DataFolder, database: str, *, is_new: bool) -> None:
        """Checks that the folder's files belong to this database, or to none.

        Raises:
            DataFolderError: they belong to another database.
        """
        if self.database in (None, database) and not (database and is_new and folder.database.exists()):
            return
        if self.database == "" and not folder.database.exists():
            return
        other = "the database jobs.sqlite in it" if folder.database.exists() and database else "another database"
        raise DataFolderError(
            f"the files in {folder.path} belong to jobs of {other}, and would be deleted; use that database with "
            "--database, or another folder with --data; or, if those jobs may be lost, use --take-database"
        )

    def save(self, folder: DataFolder, database: str) -> None:
        if self.database != database:
            with atomic_file(folder.identity) as file:
                file.write(json.dumps({"name": self.name, "database": database}).encode())


def _write_row(connection: sa.Connection, row: Any, identity: _Identity, folder: DataFolder, database: str) -> int:
    now = time.time()
    values: dict[str, Any] = {
        "folder_id": identity.here, "fence": row["fence"] + 1 if row else 1, "host": socket.gethostname(),
        "folder": str(folder.files or folder.path.resolve()), "since": now,
    }  # fmt: skip
    if row is None:
        connection.execute(
            ownership.insert().values(
                one=1, database_id=database or secrets.token_hex(16), seen=now, doubted=0, **values
            )
        )
    else:
        connection.execute(ownership.update().values(**values))
    return int(values["fence"])


def _of_another_folder(row: Any) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(row["since"]))
    return (
        f"the database belongs to the server of the folder {row['folder']} on {row['host']}, which has used it since "
        f"{since} UTC; use another database with --database or, if that folder no longer exists, take the database "
        "with --take-database"
    )
