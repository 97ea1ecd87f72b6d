"""On which database tests run: SQLite, or one each on the server of GRAMOPHONE_TEST_DATABASE, the URL of a database.

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
    """A database of the server on which tests make theirs; None for SQLite."""
    given = os.environ.get(_VARIABLE)
    return sa.make_url(given) if given else None


def use(url: str | None) -> None:
    """Has tests run on a server from now on, or on SQLite."""
    os.environ[_VARIABLE] = url or ""


def of_arguments(args: Sequence[str]) -> list[str]:
    """What to add to a server's arguments: a database that belongs to its data folder, or to nobody else."""
    if "--database" in args:
        return []
    url = of_folder(Path(args[args.index("--data") + 1]) if "--data" in args else None)
    return ["--database", url] if url else []


def of_folder(folder: Path | None) -> str | None:
    """The URL of the database of a data folder, of a new one for none; None for SQLite in the folder.

    It is made if it is not there, and goes with the run of the tests.
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


# What holds on one holds on the other, so that one is enough most of the time.
@pytest.fixture(params=["sqlite", slow("postgresql")])
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on SQLite and on PostgreSQL, or on the one that was asked for only."""
    before = os.environ.get(_VARIABLE)
    if before and request.param == "sqlite":
        pytest.skip("the tests run on another database")
    if not before and request.param == "postgresql":
        use(request.getfixturevalue("postgres_of_session").url)
    yield request.param
    use(before)


@pytest.fixture
def in_folder(request: pytest.FixtureRequest) -> None:
    """Skips a test that is about the database in the data folder where it would run on another."""
    if "each_database" in request.fixturenames:
        request.getfixturevalue("each_database")
    if server() is not None:
        pytest.skip("is about the database in the folder")


@pytest.fixture(scope="session")
def postgres_of_session() -> Iterator[Postgres]:
    """A server that all tests share which only want databases."""
    with Postgres() as running:
        yield running


def _execute(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def _drop_all() -> None:
    for database in _made:
        # One of a server that was the tests' own has gone with it.
        with contextlib.suppress(sa.exc.OperationalError):
            _execute(database.set(database="postgres"), f'DROP DATABASE IF EXISTS "{database.database}" WITH (FORCE)')


_made: list[sa.URL] = []
atexit.register(_drop_all)
