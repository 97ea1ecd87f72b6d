"""New databases, databases of earlier versions, which Alembic's steps upgrade, and databases of later versions."""

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gramophone_server.blobs import BlobStore
from gramophone_server.storage.database import (
    MIGRATIONS,
    REVISION,
    SchemaError,
    metadata,
    migrate,
    old_schema,
    open_engine,
    schema,
)
from gramophone_server.storage.query import Query
from tests import databases

from .stores import events, opened, stored_job


def columns(engine: sa.Engine) -> set[tuple[str, str, bool]]:
    """Returns (table, column, whether it may be null) for all columns."""
    inspector = sa.inspect(engine)
    return {
        (table, column["name"], column["nullable"])
        for table in metadata.tables
        for column in inspector.get_columns(table)
    }


def version(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return connection.execute(sa.select(schema.c.version_num)).scalar_one()


def differences(engine: sa.Engine) -> list[object]:
    """Returns the differences that Alembic finds between the tables of a database and those of this version."""
    # SQLite ignores the sizes of integers.
    options = {"compare_type": engine.dialect.name != "sqlite"}
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def with_steps(folder: Path, *bodies: str) -> Path:
    """Copies Alembic's folder and adds steps with these statements after the latest."""
    shutil.copytree(MIGRATIONS, folder)
    for number, body in enumerate(bodies, int(REVISION) + 1):
        lines = (
            "from alembic import op",
            f"revision, down_revision = '{number:04}', '{number - 1:04}'",
            "branch_labels = depends_on = None",
            f"def upgrade(): op.execute({body!r})",
        )
        (folder / "versions" / f"revision_{number:04}.py").write_text("\n".join(lines))
    return folder


def execute_file(engine: sa.Engine, name: str) -> None:
    """Executes the SQL statements of a file in this folder."""
    with engine.begin() as connection:
        for statement in (Path(__file__).parent / name).read_text().split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(sa.URL.create("sqlite", database=str(tmp_path / "jobs.sqlite")))
    yield engine
    engine.dispose()


def test_a_new_database_has_all_tables_and_the_latest_version(engine):
    migrate(engine)
    assert set(sa.inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    assert version(engine) == REVISION
    migrate(engine)
    assert version(engine) == REVISION


def test_revision_is_the_latest_step():
    steps = ScriptDirectory(str(MIGRATIONS))
    assert steps.get_heads() == [REVISION]
    assert [step.revision for step in steps.walk_revisions()] == [f"{n:04}" for n in range(int(REVISION), 0, -1)]


# The revisions after the latest one.
NEXT, SECOND = (f"{int(REVISION) + n:04}" for n in (1, 2))
ADD = "ALTER TABLE jobs ADD COLUMN color TEXT"
FILL = "UPDATE jobs SET color = 'blue'"


def test_an_older_database_gets_the_missing_steps(engine, tmp_path):
    migrate(engine)
    migrate(engine, NEXT, with_steps(tmp_path / "one more", ADD))
    assert version(engine) == NEXT
    # ADD is not run again: it would fail, because the column exists.
    migrate(engine, SECOND, with_steps(tmp_path / "100 % more", ADD, FILL))
    assert version(engine) == SECOND
    assert "color" in {column["name"] for column in sa.inspect(engine).get_columns("jobs")}


@pytest.mark.usefixtures("each_database")
def test_a_failed_step_leaves_the_database_unchanged(tmp_path):
    engine = open_engine(databases.of_folder(tmp_path) or f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    migrate(engine)
    steps = with_steps(tmp_path / "steps", ADD, "INSERT INTO schema_version VALUES (NULL)")
    with pytest.raises(SchemaError, match=f"cannot be upgraded from schema {REVISION}: .*schema_version"):
        migrate(engine, SECOND, steps)
    assert version(engine) == REVISION
    assert "color" not in {column["name"] for column in sa.inspect(engine).get_columns("jobs")}
    engine.dispose()


@pytest.mark.usefixtures("each_database")
async def test_a_database_of_version_1_is_upgraded_with_all_its_data(tmp_path):
    engine = open_engine(databases.of_folder(tmp_path) or f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    execute_file(engine, "version1.sql")
    with engine.begin() as connection:
        # Make the data recent: the store would delete old jobs and uploads.
        connection.exec_driver_sql(f"UPDATE uploads SET used = {time.time()}")
        connection.exec_driver_sql(f"UPDATE jobs SET end_time = {time.time()} WHERE end_time IS NOT NULL")
    files = BlobStore(tmp_path / "blobs")
    files.make()
    for data in (b"abc", b"picture", b"file"):
        files.put(data)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0002"]
        assert [job.id for job in await store.find(Query(10))] == ["0002", "0001"]
        ended = await stored_job(store, "0001")
        assert ended.outcome.image.data == b"picture"
        assert [event.sequence for event in await events(store, ended)] == [1, 2, 3, 4, 5]
        assert await store.uploads.has("alice", hashlib.sha256(b"file").hexdigest()) == 4
    assert version(engine) == REVISION
    fresh = sa.create_engine("sqlite://")
    metadata.create_all(fresh)
    assert columns(engine) == columns(fresh)
    assert differences(engine) == []
    engine.dispose()


@pytest.mark.usefixtures("each_database")
def test_a_database_of_version_2_is_upgraded_to_the_tables_of_a_new_one(tmp_path):
    engine = open_engine(databases.of_folder(tmp_path) or f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    execute_file(engine, "version2.sql")
    migrate(engine)
    assert version(engine) == REVISION
    assert differences(engine) == []
    with engine.connect() as connection:
        # A server from before Alembic refuses a database whose version here is above 2.
        assert connection.execute(sa.select(old_schema.c.version)).scalar_one() == 3
    engine.dispose()


@pytest.mark.parametrize("revision", [NEXT, "0999", "12345", "ae1027a6acf0"])
def test_a_database_of_a_later_version_is_refused(engine, revision):
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(schema.update().values(version_num=revision))
    with pytest.raises(SchemaError, match="later version"):
        migrate(engine)
    assert version(engine) == revision


def test_an_unknown_or_missing_version_without_alembic_is_refused(engine):
    execute_file(engine, "version1.sql")
    with engine.begin() as connection:
        connection.execute(old_schema.update().values(version=7))
    with pytest.raises(SchemaError, match="later version"):
        migrate(engine)
    with engine.begin() as connection:
        connection.execute(old_schema.delete())
    with pytest.raises(SchemaError, match="does not say"):
        migrate(engine)


def test_alembic_is_imported_only_to_upgrade(tmp_path):
    code = """if True:
        import sys
        from gramophone_server.storage.database import migrate, open_engine
        migrate(open_engine(sys.argv[1]))
        print("alembic" in sys.modules)
    """

    def imports() -> bool:
        command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'jobs.sqlite'}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "True"

    assert not imports()  # new
    assert not imports()  # up to date
    (tmp_path / "jobs.sqlite").unlink()
    engine = open_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    execute_file(engine, "version1.sql")
    engine.dispose()
    assert imports()
    assert not imports()


def test_sqlite_uses_a_write_ahead_log_and_full_synchronization(engine):
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
