"""Classifies storage errors: the disk is full, the storage is unavailable for now, or the program has a bug."""

import errno
from dataclasses import dataclass, field

import sqlalchemy as sa

# Error codes of SQLite, and of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLITE_FULL, _POSTGRES_FULL = 13, "53100"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# A missing database, schema or table, or missing privileges: an administrator is probably working on the database.
_MAINTENANCE = ("3D000", "3F000", "42P01", "42501")


@dataclass(frozen=True)
class Trouble:
    """Why the storage cannot be used for now.

    Attributes:
        reason: message for clients, without paths and addresses.
        full: whether the storage is only full, and can still be read.
        detail: message for the log.
    """

    reason: str
    full: bool = False
    detail: str = field(default="", compare=False)


class StorageError(Exception):
    """The store cannot write or read something; the message is for the client."""


class StorageFullError(StorageError):
    """The disk or the database is full."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(f"The server cannot write to its disk: {trouble.reason}.")
        self.trouble = trouble


class StorageAwayError(StorageError):
    """The storage is unavailable for now; the client can retry later."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(f"The server's storage cannot be used for the moment: {trouble.reason}. Try again soon.")
        self.trouble = trouble


class ObjectStoreError(OSError):
    """The object store of the files cannot be used.

    Args:
        reason: what is wrong, without addresses.
        detail: what the store or its client said, for the log.
        lasting: whether it is no use to try again, because an administrator has to change something.
    """

    def __init__(self, reason: str, detail: str = "", *, lasting: bool = False) -> None:
        super().__init__(errno.EIO, reason, detail)
        self.lasting = lasting


class AlreadySubmittedError(Exception):
    """Another front of the cluster has just stored the client's job with this request id."""


def trouble_of(error: BaseException) -> Trouble | None:
    """Returns the trouble that an error of the database or of a file means; None if the error is a bug."""
    if isinstance(error, StorageFullError | StorageAwayError):
        return error.trouble
    if isinstance(error, OSError):
        return Trouble(reason_of(error), full=error.errno in _NO_SPACE, detail=str(error))
    if isinstance(error, sa.exc.DBAPIError):
        return _trouble_of_database(error)
    # All connections of the pool are in use, or a transaction lost its connection.
    if isinstance(error, sa.exc.TimeoutError | sa.exc.PendingRollbackError | sa.exc.ResourceClosedError):
        return Trouble(reason_of(error))
    return None


def storage_error(error: OSError) -> StorageError:
    """Returns the error for the client that corresponds to an error of a file."""
    trouble = trouble_of(error) or Trouble(reason_of(error))
    return StorageFullError(trouble) if trouble.full else StorageAwayError(trouble)


def reason_of(error: BaseException) -> str:
    """Returns the reason of an error as one line without a final period."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).splitlines() or [type(cause).__name__]
    return str(getattr(cause, "strerror", None) or lines[0]).rstrip(".")


def _trouble_of_database(error: sa.exc.DBAPIError) -> Trouble | None:
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError | sa.exc.NotSupportedError):
        return None
    if isinstance(error, sa.exc.ProgrammingError) and state not in _MAINTENANCE:
        return None
    full = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == _SQLITE_FULL or state == _POSTGRES_FULL
    # An error without a code comes from the driver: it cannot connect, and its message contains addresses.
    unreachable = state is None and not hasattr(error.orig, "sqlite_errorcode")
    reason = "the database cannot be reached" if unreachable else reason_of(error)
    return Trouble(reason, full=full, detail=str(error.orig))
