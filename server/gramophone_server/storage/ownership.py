"""Whose a database is: it belongs to one data folder, and a data folder's files belong to one database.

Without that, two servers would take each other's jobs, and each would remove the other's files as nobody's.
"""

import json
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..files import atomic_file
from .clock import Reading
from .database import alone, jobs, ownership
from .folder import DataFolder, DataFolderError

log = logging.getLogger(__name__)


class TakenOverError(OSError):
    """The database has been given to another server, and this one may not write to it any more."""

    def __init__(self) -> None:
        super().__init__("the database has been taken over by another server, and this one has to be stopped")


@dataclass(frozen=True)
class Claim:
    """That a database is this server's, until another takes it.

    Attributes:
        fence: higher than that of any server before.
        last: what the clock showed when a server last used this database; None for a new one.
    """

    fence: int
    last: Reading | None

    def check(self, connection: sa.Connection) -> None:
        """Sees that the database is still this server's; it stays so until the transaction ends.

        Raises:
            TakenOverError: it is another's.
        """
        mine = sa.select(ownership.c.one).where(ownership.c.fence == self.fence).with_for_update(read=True)
        if connection.execute(mine).first() is None:
            raise TakenOverError

    def note(self, connection: sa.Connection, reading: Reading) -> None:
        """Keeps what the clock shows."""
        mine = ownership.update().where(ownership.c.fence == self.fence)
        connection.execute(mine.values(seen=reading.time, doubted=reading.doubted))


def claim(
    engine: sa.Engine,
    folder: DataFolder,
    *,
    in_folder: bool,
    take: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Claim:
    """Takes a database for the server of a folder.

    Args:
        in_folder: whether it is the database in the folder, which is the folder's wherever that is moved or copied.
        take: whether to take it even if it is another folder's, or the folder's files are another database's.
        check: is called before it is taken; what it raises leaves it as it was.

    Raises:
        DataFolderError: it is another folder's, or the folder's files are another database's.
    """
    identity = _Identity.of(folder)
    with alone(engine) as connection:
        row = connection.execute(sa.select(ownership)).mappings().first()
        is_mine = in_folder or (row is not None and row["folder_id"] == identity.here)
        if row is not None and not is_mine:
            if not take:
                raise DataFolderError(_of_another_folder(row))
            log.warning("the database is taken from the server of %s on %s", row["folder"], row["host"])
        database = "" if in_folder else row["database_id"] if row else secrets.token_hex(16)
        is_new = row is None and connection.execute(sa.select(jobs.c.id).limit(1)).first() is None
        if not (take or (row is not None and is_mine and not in_folder)):
            identity.check(folder, database, is_new=is_new)
        check()
        fence = _write_row(connection, row, identity, folder, database)
    identity.keep(folder, database)
    return Claim(fence, Reading(row["seen"], row["doubted"]) if row else None)


def release(engine: sa.Engine, mine: Claim) -> None:
    """Gives a database up, so that any folder may have it."""
    with alone(engine) as connection:
        connection.execute(ownership.delete().where(ownership.c.fence == mine.fence))


@dataclass(frozen=True)
class _Identity:
    """What a folder says of itself.

    Attributes:
        name: made up once.
        here: the name, and which file on the disk its lock is: a copy of the folder is another folder.
        database: the id of the database whose files are in the folder: "" for the one in it, None if that is not known.
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
        return cls(name, f"{name}-{folder.lock.stat().st_ino}", None if database is None else str(database))

    def check(self, folder: DataFolder, database: str, *, is_new: bool) -> None:
        """Sees that the folder's files are that database's, or nobody's."""
        if self.database in (None, database) and not (database and is_new and folder.database.exists()):
            return
        if self.database == "" and not folder.database.exists():
            return
        other = "the database jobs.sqlite in it" if folder.database.exists() and database else "another database"
        raise DataFolderError(
            f"the files in {folder.path} belong to jobs of {other}, and would be removed; give that database with "
            "--database, or this one a folder of its own with --data; or, if those jobs may be lost, use "
            "--take-database"
        )

    def keep(self, folder: DataFolder, database: str) -> None:
        if self.database != database:
            with atomic_file(folder.identity) as file:
                file.write(json.dumps({"name": self.name, "database": database}).encode())


def _write_row(connection: sa.Connection, row: Any, identity: _Identity, folder: DataFolder, database: str) -> int:
    now = time.time()
    values: dict[str, Any] = {
        "folder_id": identity.here, "fence": row["fence"] + 1 if row else 1, "host": socket.gethostname(),
        "folder": str(folder.path.resolve()), "since": now,
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
        f"{since} UTC; give this server a database of its own with --database or, if that folder is gone for good, "
        "take the database with --take-database"
    )
