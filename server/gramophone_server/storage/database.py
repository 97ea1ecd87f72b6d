"""The database tables, and how the database is opened and migrated. SQLite is the default."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

LOCK_PATIENCE = 500
"""Milliseconds that a statement waits for a lock of another process."""

REVISION = "0005"
"""The schema revision of the tables below: the number of the latest migration."""
MIGRATIONS = Path(__file__).parent / "migrations"
"""Alembic's folder of migrations."""

metadata = sa.MetaData()
# Key of PostgreSQL's advisory lock: any number that all servers share.
_LOCK = 0x6772616D6F

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(256), nullable=False),
    # The client's id of the submission; null if it has none.
    sa.Column("request_id", sa.String(128)),
    # Hash of the request, to detect that an id is reused for a different request.
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("create_time", sa.Float, nullable=False),
    sa.Column("start_time", sa.Float),
    sa.Column("end_time", sa.Float),
    # JSON of storage.codec.
    sa.Column("spec", sa.Text, nullable=False),
    # The other columns are used only in a cluster. Token of the front that leases the job; null if none does.
    sa.Column("front", sa.BigInteger),
    # Whether a client has canceled the job, which its front does not know yet.
    sa.Column("canceled", sa.Boolean, nullable=False, server_default=sa.false()),
    # `losses`, `suspected` and `squeeze` of storage.job, for the front that runs the job next.
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("suspected", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("squeeze", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("owner", "request_id"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    # Progress, result or failure as JSON of storage.codec; null for a change of state without detail.
    sa.Column("detail", sa.Text),
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
)

# The blobs of a job's pictures and result.
job_blobs = sa.Table(
    "job_blobs",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sha256", sa.ForeignKey("blobs.sha256"), primary_key=True),
    sa.Column("is_result", sa.Boolean, nullable=False),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("owner", sa.String(256), primary_key=True),
    sa.Column("sha256", sa.ForeignKey("blobs.sha256"), primary_key=True),
    sa.Column("used", sa.Float, nullable=False),
)

# Blobs that a deleted job or upload had: those that nothing else uses are removed, without a search among all blobs. A
# blob may occur several times, and may be in use.
freed = sa.Table(
    "freed",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)

# One row: the server that owns the database, and when that server last used it.
ownership = sa.Table(
    "ownership",
    metadata,
    # Always 1, so that there can be only one row.
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    # Id of the database.
    sa.Column("database_id", sa.String(64), nullable=False),
    # Id of the data folder that the database belongs to.
    sa.Column("folder_id", sa.String(128), nullable=False),
    # Fencing token: each server that starts increments it, and servers with a lower one may no longer write.
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    # The last ClockReading of storage.clock: `time` and `doubted`.
    sa.Column("seen", sa.Float, nullable=False),
    sa.Column("doubted", sa.Float, nullable=False),
)

# The fronts of a cluster. Whoever deletes a row takes the front's leases: it may no longer write.
fronts = sa.Table(
    "fronts",
    metadata,
    # Fencing token: the `fence` of the ownership when the front joined, so that later fronts have higher tokens.
    sa.Column("token", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("host", sa.Text, nullable=False),
    # Name of its folder of staged pictures.
    sa.Column("staging", sa.String(64), nullable=False),
    # Seconds since the epoch by the clock of the database. After `expires`, other fronts may delete the row.
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
)

# The recent device time of each client of a cluster.
shares = sa.Table(
    "shares",
    metadata,
    sa.Column("owner", sa.String(256), primary_key=True),
    # Decayed seconds; see scheduling.queue.FairQueue.
    sa.Column("used", sa.Float, nullable=False),
)

# The latest preview of each running job that clients watch at other fronts.
previews = sa.Table(
    "previews",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    # Progress as JSON of storage.codec, and the file of its preview.
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

# The schema version that servers without Alembic check. It stays at 3, which they reject as too high.
old_schema = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))
_OLD_VERSION = 3

# Alembic's own table; one row.
schema = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

# With the id, so that a page of a list is read in order, without the other jobs.
sa.Index("jobs_by_state", jobs.c.state, jobs.c.id)
sa.Index("jobs_by_owner", jobs.c.owner, jobs.c.id)
sa.Index("jobs_by_owner_and_state", jobs.c.owner, jobs.c.state, jobs.c.id)
sa.Index("jobs_by_end", jobs.c.end_time)
sa.Index("blobs_of_jobs", job_blobs.c.sha256)
sa.Index("blobs_of_uploads", uploads.c.sha256)


class SchemaError(Exception):
    """This program cannot use the database's schema version."""


def open_engine(url: str | sa.URL, *, safe: bool = True) -> sa.Engine:
    """Returns an engine for a database.

    Args:
        safe: whether SQLite syncs every commit to disk; False for temporary databases.
    """
    # Connections: one writer, some readers, one for pings, one for metrics.
    pooling = {} if sa.make_url(url).get_backend_name() == "sqlite" else {"pool_pre_ping": True, "pool_size": 8}
    engine = sa.create_engine(url, **pooling)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def set_up(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {'FULL' if safe else 'OFF'}")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute(f"PRAGMA busy_timeout = {LOCK_PATIENCE}")
            cursor.close()
            # SQLite returns any bytes as text: damaged text of one job must not prevent reading other jobs.
            connection.text_factory = _read_text

    return engine


def _read_text(data: bytes) -> str:
    return data.decode(errors="replace")


def insert_missing(connection: sa.Connection, table: sa.Table) -> Any:
    """Returns a statement that inserts rows; on PostgreSQL, those that another front has inserted are left out."""
    if connection.dialect.name != "postgresql":
        return table.insert()
    # Import on demand: it slows down the start.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table).on_conflict_do_nothing()


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A read transaction: all queries see the database as of the first query."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Python's driver begins a transaction only before a write.
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction during which no other server can create tables or claim the database."""
    with engine.begin() as connection:
        match engine.dialect.name:
            case "sqlite":
                # Python's driver begins a transaction only before a write of rows.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            case "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def migrate(engine: sa.Engine, latest: str = REVISION, migrations: Path = MIGRATIONS) -> None:
    """Creates the tables, or migrates existing ones to the latest revision.

    Args:
        latest: the latest revision, a number of four digits.
        migrations: Alembic's folder of migrations.

    Raises:
        SchemaError: the tables have a later revision, or a migration fails; the database is unchanged.
    """
    with exclusive(engine) as connection:
        found = _revision(connection)
        if found is None:
            metadata.create_all(connection)
            schema.create(connection)
            connection.execute(old_schema.insert().values(version=_OLD_VERSION))
            connection.execute(schema.insert().values(version_num=latest))
        elif found != latest:
            if not (found.isdecimal() and "0000" < found < latest):
                raise SchemaError(
                    f"was made by a later version of gramophone (schema {found}, this version supports {latest})"
                )
            # Import Alembic only if there is something to migrate: it slows down the start.
            from .migrations.upgrade import upgrade

            upgrade(connection, found, migrations)


def _revision(connection: sa.Connection) -> str | None:
    """Returns the schema revision of a database; None if it has no tables.

    Raises:
        SchemaError: there are tables, but no revision.
    """
    inspector = sa.inspect(connection)
    is_old = inspector.has_table(old_schema.name)
    found: str | int | None = None
    if inspector.has_table(schema.name):
        found = connection.execute(sa.select(schema.c.version_num)).scalar()
    if found is None and is_old:
        found = connection.execute(sa.select(old_schema.c.version)).scalar()
        if found is None:
            raise SchemaError("does not say which version of gramophone made it")
    return None if found is None else str(found).zfill(4)
