import pytest
import sqlalchemy as sa

from gramophone_server.jobs.database import SchemaError, metadata, migrate, open_engine, schema


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
    assert version(engine) == 1
    migrate(engine)
    assert version(engine) == 1


def test_an_older_database_goes_through_the_steps_it_has_not_had(engine):
    migrate(engine)

    def second(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN colour TEXT")

    def third(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE jobs SET colour = 'blue'")

    migrate(engine, (second,))
    assert version(engine) == 2
    migrate(engine, (second, third))  # `second` again would fail: the column is there
    assert version(engine) == 3
    assert "colour" in {column["name"] for column in sa.inspect(engine).get_columns("jobs")}


def test_a_step_that_fails_leaves_the_version(engine):
    migrate(engine)

    def broken(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE nowhere SET colour = 'blue'")

    with pytest.raises(sa.exc.OperationalError):
        migrate(engine, (broken,))
    assert version(engine) == 1


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
