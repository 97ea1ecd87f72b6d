"""The connections to the database: none waits for ever, and none is to a file that is no longer the database's."""

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

# Seconds that a server may take to end connections that were lost.
_END_PATIENCE = 2.0
# Of libpq, in seconds but for the last: that a server is gone of which nothing comes any more is to be noticed, also
# while nothing is sent to it.
_TIMES = {
    "connect_timeout": 2, "keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}  # fmt: skip

_sessions = sa.table("pg_stat_activity", sa.column("pid", sa.Integer), sa.column("application_name", sa.String))


class Lines:
    """The connections of an engine, which it sets up and can cut.

    Args:
        engine: one that has not been connected yet.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._open: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()
        self._name = _new_name()
        self._old_names: list[str] = []
        self._file = engine.url.database if engine.dialect.name == "sqlite" else None
        if self._file in ("", ":memory:"):
            self._file = None
        self.made = False
        """Whether the database is there, so that a file that is missing is not made anew."""
        event.listen(engine, "do_connect", self._before)
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "checkout", self._taken)

    def cut(self) -> None:
        """Ends all connections to a server, whatever they wait for: whoever waits gets an error of the database."""
        with self._lock:
            lines = list(self._open)
            self._open.clear()
        for connection in lines:
            # One may be closed meanwhile.
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
        self._engine.dispose()

    def renew(self) -> None:
        """Begins anew with all connections, and sees that the server has ended the old ones: it may else commit later
        what is thought to be lost. Blocks.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: it cannot be asked.
            OSError: it has not ended them yet.
        """
        self._engine.dispose()
        if self._engine.dialect.name != "postgresql":
            return
        self._old_names.append(self._name)
        self._name = _new_name()
        old = _sessions.c.application_name.in_(self._old_names)
        end = sa.select(sa.func.pg_terminate_backend(_sessions.c.pid)).where(old)
        deadline = time.monotonic() + _END_PATIENCE
        with self._engine.connect() as connection:
            # Again and again: one may be about to be opened.
            while connection.execute(end).first() is not None:
                connection.rollback()
                if time.monotonic() > deadline:
                    raise TimeoutError("the database still holds connections that were lost")
                time.sleep(0.01)
        self._old_names.clear()

    def _before(self, dialect: Any, record: Any, args: list[Any], parameters: dict[str, Any]) -> None:
        if self._file is None:
            if self._engine.dialect.name == "postgresql":
                for name, value in _TIMES.items() if self._engine.dialect.driver.startswith("psycopg") else ():
                    parameters.setdefault(name, value)
                parameters["application_name"] = self._name
        elif self.made and not os.path.exists(self._file):
            raise sqlite3.OperationalError("the file of the database is not there")

    def _connected(self, connection: Any, record: Any) -> None:
        if self._file is not None:
            record.info["file"] = _identity(self._file)
        elif self._engine.dialect.name == "postgresql":
            with self._lock:
                self._open.add(connection)
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = {LOCK_PATIENCE}")
            connection.commit()

    def _taken(self, connection: Any, record: Any, proxy: Any) -> None:
        if self._file is not None and record.info.get("file") != _identity(self._file):
            raise sa.exc.DisconnectionError("the file of the database is not there, or another one")


def _identity(file: str) -> tuple[int, int] | None:
    """Which file it is that has this name; None if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _new_name() -> str:
    return f"gramophone-{secrets.token_hex(4)}"
