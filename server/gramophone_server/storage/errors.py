"""What an error of the storage means: that there is no room, that it is away for now, or a mistake of the program."""

import errno
from dataclasses import dataclass, field

import sqlalchemy as sa

# Of SQLite, and of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLITE_FULL, _POSTGRES_FULL = 13, "53100"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# A database, a schema or a table that is not there, and rights that were taken: somebody is working on the database.
_UNDER_REPAIR = ("3D000", "3F000", "42P01", "42501")


@dataclass(frozen=True)
class Trouble:
    """Why the storage cannot be used for now.

    Attributes:
        reason: for clients, who have no business with paths and addresses.
        full: whether it lacks nothing but room; then it can still be read.
        detail: for the log.
    """

    reason: str
    full: bool = False
    detail: str = field(default="", compare=False)


class StorageError(Exception):
    """The store cannot keep or find something; the message is for the client."""


class StorageFullError(StorageError):
    """There is no room for it."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(f"The server cannot write to its disk: {trouble.reason}.")
        self.trouble = trouble


class StorageAwayError(StorageError):
    """The storage cannot be used for now; the same call will do later."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(f"The server's storage cannot be used for the moment: {trouble.reason}. Try again soon.")
        self.trouble = trouble


def trouble_of(error: BaseException) -> Trouble | None:
    """What an error of the database or of a file says about the storage; None if it is a mistake of the program."""
    if isinstance(error, StorageFullError | StorageAwayError):
        return error.trouble
    if isinstance(error, OSError):
        return Trouble(reason_of(error), full=error.errno in _NO_ROOM, detail=str(error))
    if isinstance(error, sa.exc.DBAPIError):
        return _trouble_of_database(error)
    # The pool has no connection left; the transaction went with its connection.
    if isinstance(error, sa.exc.TimeoutError | sa.exc.PendingRollbackError | sa.exc.ResourceClosedError):
        return Trouble(reason_of(error))
    return None


def storage_error(error: OSError) -> StorageError:
    """What a client is told of an error of a file."""
    trouble = trouble_of(error) or Trouble(reason_of(error))
    return StorageFullError(trouble) if trouble.full else StorageAwayError(trouble)


def reason_of(error: BaseException) -> str:
    """What went wrong, in a line without a full stop."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).splitlines() or [type(cause).__name__]
    return str(getattr(cause, "strerror", None) or lines[0]).rstrip(".")


def _trouble_of_database(error: sa.exc.DBAPIError) -> Trouble | None:
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError | sa.exc.NotSupportedError):
        return None
    if isinstance(error, sa.exc.ProgrammingError) and state not in _UNDER_REPAIR:
        return None
    full = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == _SQLITE_FULL or state == _POSTGRES_FULL
    # What a server's driver says of a connection names addresses, and the server's own words have a code.
    unreachable = state is None and not hasattr(error.orig, "sqlite_errorcode")
    reason = "the database cannot be reached" if unreachable else reason_of(error)
    return Trouble(reason, full=full, detail=str(error.orig))
