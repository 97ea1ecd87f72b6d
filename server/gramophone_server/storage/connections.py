"""Sets up the connections to the database: with timeouts, and with a check that a SQLite file was not replaced."""

import contextlib
import os
import secrets
import socket
import sqlite3
import threading
import time
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import event

from .database import LOCK_PATIENCE

# Seconds that the PostgreSQL server may take to end lost connections.
_END_TIMEOUT = 2.0
# Timeouts of libpq, in seconds except the last in ms: they detect a server that stopped answering, even when idle.
_TIMEOUTS = {
    "connect_timeout": 2, "keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}  # fmt: skip
# The same of PostgreSQL's side: a machine that lost its power or network must not keep its locks.
_SERVER_TIMEOUTS = {
    "tcp_keepalives_idle": 10, "tcp_keepalives_interval": 3, "tcp_keepalives_count": 3, "tcp_user_timeout": 10_000,
}  # fmt: skip

_sessions = sa.table("pg_stat_activity", sa.column("pid", sa.Integer), sa.column("application_name", sa.String))


class Connections:
    """Sets up the connections of an engine, and can abort them.

    Args:
        engine: an engine that has not connected yet.
        owner: name of this server in the database, by which others find its connections; at most 48 characters.

    Attributes:
        database_exists: whether the database has been opened, so that a missing SQLite file must not be created again.
        longest_pause: seconds that PostgreSQL waits for the next statement of a transaction before it ends the
            connection, and with it the transaction and its locks; None for ever.
    """

    def __init__(self, engine: sa.Engine, owner: str = "gramophone") -> None:
        self._engine = engine
        self._owner = owner
        self._open: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()
        self._name = self._new_name()
        self._old_names: list[str] = []
        self._file = engine.url.database if engine.dialect.name == "sqlite" else None
        if self._file in ("", ":memory:"):
            self._file = None
        self.database_exists = False
        self.longest_pause: float | None = None
        event.listen(engine, "do_connect", self._before_connect)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "checkout", self._on_checkout)

    def abort(self) -> None:
        """Shuts down all network connections: operations that wait for the database fail with a database error."""
        with self._lock:
            connections = list(self._open)
            self._open.clear()
        for connection in connections:
            # The connection may have been closed meanwhile.
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
        self._engine.dispose()

    def renew(self) -> None:
        """Replaces all connections, and waits until the server has ended the old ones. Blocks.

        An old connection could otherwise still commit a transaction that has been reported as failed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the server cannot be reached.
            OSError: the server has not ended the old connections yet.
        """
        self._engine.dispose()
        if self._engine.dialect.name != "postgresql":
            return
        self._old_names.append(self._name)
        self._name = self._new_name()
        old = _sessions.c.application_name.in_(self._old_names)
        end = sa.select(sa.func.pg_terminate_backend(_sessions.c.pid)).where(old)
        deadline = time.monotonic() + _END_TIMEOUT
        with self._engine.connect() as connection:
            # Repeat until no old connection is left: another one may still be opening.
            while connection.execute(end).first() is not None:
                connection.rollback()
                if time.monotonic() > deadline:
                    raise TimeoutError("the database has not ended the lost connections yet")
                time.sleep(0.01)
        self._old_names.clear()

    def _new_name(self) -> str:
        return f"{self._owner}-{secrets.token_hex(4)}"

    def _before_connect(self, dialect: Any, record: Any, args: list[Any], parameters: dict[str, Any]) -> None:
        if self._file is None:
            if self._engine.dialect.name == "postgresql":
                for name, value in _TIMEOUTS.items() if self._engine.dialect.driver.startswith("psycopg") else ():
                    parameters.setdefault(name, value)
                parameters["application_name"] = self._name
        elif self.database_exists and not os.path.exists(self._file):
            raise sqlite3.OperationalError("the database file is missing")

    def _on_connect(self, connection: Any, record: Any) -> None:
        if self._file is not None:
            record.info["file"] = _identity(self._file)
        elif self._engine.dialect.name == "postgresql":
            with self._lock:
                self._open.add(connection)
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = {LOCK_PATIENCE}")
                for name, value in _SERVER_TIMEOUTS.items():
                    cursor.execute(f"SET {name} = {value}")
                if self.longest_pause is not None:
                    cursor.execute(f"SET idle_in_transaction_session_timeout = {int(1000 * self.longest_pause)}")
            connection.commit()

    def _on_checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        if self._file is not None and record.info.get("file") != _identity(self._file):
            raise sa.exc.DisconnectionError("the database file is missing or was replaced")


def _identity(file: str) -> tuple[int, int] | None:
    """Returns (device, inode) of the file with this name; None if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def end_connections(connection: sa.Connection, owner: str) -> None:
    """Lets PostgreSQL end the connections of another server, whatever they are doing.

    Args:
        owner: the server's name in the database; see `Connections`.
    """
    theirs = _sessions.c.application_name.startswith(f"{owner}-", autoescape=True)
    connection.execute(sa.select(sa.func.pg_terminate_backend(_sessions.c.pid)).where(theirs))
