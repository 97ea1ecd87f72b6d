"""The classification of storage errors: storage unavailable, storage full, or a bug."""

import errno
import sqlite3

import pytest
import sqlalchemy as sa

from gramophone_server.storage.errors import StorageAwayError, StorageFullError, Trouble, storage_error, trouble_of


def raised(statement: str) -> sa.exc.SQLAlchemyError:
    """Returns the error that SQLite raises for a statement."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        with pytest.raises(sa.exc.SQLAlchemyError) as caught:
            connection.exec_driver_sql(statement)
    return caught.value


class DriverError(Exception):
    """An error of a database driver with an SQLSTATE."""

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def server_error(kind: type[sa.exc.DBAPIError], sqlstate: str | None, message: str = "message") -> sa.exc.DBAPIError:
    """Returns the SQLAlchemy error for an error of a PostgreSQL server."""
    return kind("SELECT", None, DriverError(message, sqlstate))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_trouble_full(number):
    trouble = trouble_of(OSError(number, "No space left on device", "/a/path"))
    assert trouble == Trouble("No space left on device", full=True)
    assert "/a/path" in trouble.detail
    assert isinstance(storage_error(OSError(number, "x")), StorageFullError)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.EMFILE, errno.EROFS, errno.ESTALE, errno.EACCES])
def test_other_file_errors_are_trouble(number):
    assert trouble_of(OSError(number, "why")) == Trouble("why")
    assert isinstance(storage_error(OSError(number, "x")), StorageAwayError)


@pytest.mark.parametrize("statement", ["INSERT INTO t VALUES (1)", "SELECT ? FROM t"])
def test_bugs_are_not_trouble(statement):
    assert trouble_of(raised(statement)) is None
    assert trouble_of(ValueError("A string cannot contain NUL")) is None


def test_a_missing_table_is_trouble():
    assert trouble_of(raised("SELECT * FROM u")) == Trouble("no such table: u")


@pytest.mark.parametrize(
    ("kind", "sqlstate", "expected"),
    [
        (sa.exc.OperationalError, None, Trouble("the database cannot be reached")),
        (sa.exc.OperationalError, "57P01", Trouble("message")),
        (sa.exc.OperationalError, "53100", Trouble("message", full=True)),
        (sa.exc.InternalError, "25006", Trouble("message")),
        (sa.exc.ProgrammingError, "42P01", Trouble("message")),
        (sa.exc.ProgrammingError, "42601", None),
        (sa.exc.DataError, "22001", None),
        (sa.exc.IntegrityError, "23505", None),
    ],
)
def test_errors_of_a_database_server_are_classified_by_sqlstate(kind, sqlstate, expected):
    assert trouble_of(server_error(kind, sqlstate)) == expected


def test_addresses_are_only_in_the_detail_for_the_log():
    trouble = trouble_of(server_error(sa.exc.OperationalError, None, "connection to server at 10.0.0.7 failed"))
    assert trouble is not None
    assert "10.0.0.7" not in trouble.reason
    assert "10.0.0.7" in trouble.detail


def test_a_full_sqlite_database_is_trouble_full(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x BLOB)")
        connection.exec_driver_sql("PRAGMA max_page_count = 10")
        with pytest.raises(sa.exc.SQLAlchemyError) as caught:
            connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    trouble = trouble_of(caught.value)
    assert trouble is not None and trouble.full
