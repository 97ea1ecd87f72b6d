"""Databases of tests: SQLite, or databases on the PostgreSQL server of the URL in GRAMOPHONE_TEST_DATABASE.

`pytest --postgres` starts such a server for the run.
"""

import atexit
import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.marks import slow
from tests.postgres import Postgres

_VARIABLE = "GRAMOPHONE_TEST_DATABASE"


def server() -> sa.URL | None:
    """Returns a URL of the server on which tests create their databases; None for SQLite."""
    given = os.environ.get(_VARIABLE)
    return sa.make_url(given) if given else None


def use(url: str | None) -> None:
    """Runs later tests on the server of `url`, or on SQLite if it is None."""
    os.environ[_VARIABLE] = url or ""


def database_arguments(args: Sequence[str]) -> list[str]:
    """Returns arguments to add to a server's: the database of its data folder, or a new one if it has no --data."""
    if "--database" in args:
        return []
    url = of_folder(Path(args[args.index("--data") + 1]) if "--data" in args else None)
    return ["--database", url] if url else []


def of_folder(folder: Path | None) -> str | None:
    """Returns the URL of a data folder's database, or of a new database for None; None for SQLite in the folder.

    Creates the database if it does not exist; the end of the test run drops it.
    """
    at = server()
    if at is None:
        return None
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16] if folder else secrets.token_hex(8)
    database = at.set(database=f"test_{name}")
    if database not in _made:
        _execute(at, f'DROP DATABASE IF EXISTS "{database.database}" WITH (FORCE)')
        _execute(at, f'CREATE DATABASE "{database.database}"')
        _made.append(database)
    return database.render_as_string(hide_password=False)


# PostgreSQL is slow: what holds on SQLite almost always holds there too.
@pytest.fixture(params=["sqlite", slow("postgresql")])
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on SQLite and on PostgreSQL, or only on the server that the run was given."""
    before = os.environ.get(_VARIABLE)
    if before and request.param == "sqlite":
        pytest.skip("this run uses another database")
    if not before and request.param == "postgresql":
        use(request.getfixturevalue("shared_postgres").url)
    yield request.param
    use(before)


@pytest.fixture
def needs_sqlite(request: pytest.FixtureRequest) -> None:
    """Skips a test of the SQLite database in the data folder where it would run on another database."""
    if "each_database" in request.fixturenames:
        request.getfixturevalue("each_database")
    if server() is not None:
        pytest.skip("tests the SQLite database in the data folder")


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server shared by the tests that need no more than databases on it."""
    with Postgres() as running:
        yield running


def _execute(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def _drop_all() -> None:
    for database in _made:
        # The server of --postgres has stopped by now, and its databases with it.
        with contextlib.suppress(sa.exc.OperationalError):
            _execute(database.set(database="postgres"), f'DROP DATABASE IF EXISTS "{database.database}" WITH (FORCE)')


_made: list[sa.URL] = []
atexit.register(_drop_all)
