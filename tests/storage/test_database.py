import hashlib
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from gramophone_server.blobs import BlobStore
from gramophone_server.storage.archive import Query
from gramophone_server.storage.database import MIGRATIONS, SchemaError, metadata, migrate, open_engine, schema
from tests import databases

from .stores import events, opened

LATEST = 1 + len(MIGRATIONS)


def columns(engine: sa.Engine) -> set[tuple[str, str, bool]]:
    """All columns: whose they are, their names, and whether they may be null."""
    inspector = sa.inspect(engine)
    return {
        (table, column["name"], column["nullable"])
        for table in metadata.tables
        for column in inspector.get_columns(table)
    }


def version(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.select(schema.c.version)).scalar_one()


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(sa.URL.create("sqlite", database=str(tmp_path / "jobs.sqlite")))
    yield engine
    engine.dispose()


def test_a_new_database_has_all_tables_and_the_latest_version(engine):
    migrate(engine)
    assert set(sa.inspect(engine).get_table_names()) == set(metadata.tables)
    assert version(engine) == LATEST
    migrate(engine)
    assert version(engine) == LATEST


def test_an_older_database_goes_through_the_steps_it_has_not_had(engine):
    migrate(engine)

    def second(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN color TEXT")

    def third(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE jobs SET color = 'blue'")

    migrate(engine, (*MIGRATIONS, second))
    assert version(engine) == LATEST + 1
    migrate(engine, (*MIGRATIONS, second, third))  # `second` again would fail: the column is there
    assert version(engine) == LATEST + 2
    assert "color" in {column["name"] for column in sa.inspect(engine).get_columns("jobs")}


def test_a_step_that_fails_leaves_the_version(engine):
    migrate(engine)

    def broken(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE nowhere SET color = 'blue'")

    with pytest.raises(sa.exc.OperationalError):
        migrate(engine, (*MIGRATIONS, broken))
    assert version(engine) == LATEST


@pytest.mark.usefixtures("each_database")
async def test_a_database_of_version_1_is_taken_with_all_that_is_in_it(tmp_path):
    engine = open_engine(databases.of_folder(tmp_path) or f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    with engine.begin() as connection:
        for statement in (Path(__file__).parent / "version1.sql").read_text().split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        # Or it would be forgotten, being old.
        connection.exec_driver_sql(f"UPDATE uploads SET used = {time.time()}")
        connection.exec_driver_sql(f"UPDATE jobs SET end_time = {time.time()} WHERE end_time IS NOT NULL")
    files = BlobStore(tmp_path / "blobs")
    files.make()
    for data in (b"abc", b"picture", b"file"):
        files.put(data)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0002"]
        assert [job.id for job in await store.find(Query(10))] == ["0002", "0001"]
        ended = await store.get("0001")
        assert ended.outcome.image.data == b"picture"
        assert [event.sequence for event in await events(store, ended)] == [1, 2, 3, 4, 5]
        assert await store.has_upload("alice", hashlib.sha256(b"file").hexdigest()) == 4
    assert version(engine) == LATEST
    fresh = sa.create_engine("sqlite://")
    metadata.create_all(fresh)
    assert columns(engine) == columns(fresh)
    engine.dispose()


def test_a_later_database_is_refused(engine):
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(schema.update().values(version=7))
    with pytest.raises(SchemaError, match="later version"):
        migrate(engine)


def test_sqlite_writes_ahead_and_to_the_disk(engine):
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
