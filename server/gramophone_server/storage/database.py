"""The tables in which jobs are kept, in any database that SQLAlchemy speaks to; SQLite unless told otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

LOCK_PATIENCE = 500
"""Milliseconds that a statement waits for a lock that another process holds on the database."""

REVISION = "0003"
"""Of the tables below: the number of the latest step in `migrations`."""
STEPS = Path(__file__).parent / "migrations"
"""Alembic's folder of the steps from one revision to the next."""

metadata = sa.MetaData()
# Any number, as long as all servers lock the same one.
_LOCK = 0x6772616D6F

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(256), nullable=False),
    # What its client calls the submission; null for one that has no name.
    sa.Column("request_id", sa.String(128)),
    # Of the request itself: the same name for another request is a mistake.
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("create_time", sa.Float, nullable=False),
    sa.Column("start_time", sa.Float),
    sa.Column("end_time", sa.Float),
    # As storage.codec writes it.
    sa.Column("spec", sa.Text, nullable=False),
    sa.UniqueConstraint("owner", "request_id"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    # Progress, result or failure as storage.codec writes it; null for a bare change of state.
    sa.Column("detail", sa.Text),
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
)

# Which blobs a job's pictures and its result are in.
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

# One row: whose the database is, and when its server was last seen.
ownership = sa.Table(
    "ownership",
    metadata,
    # Always 1, so that there cannot be two rows.
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    # Of the database itself.
    sa.Column("database_id", sa.String(64), nullable=False),
    # Of the data folder that it belongs to.
    sa.Column("folder_id", sa.String(128), nullable=False),
    # Higher each time a server begins: one that was begun before may write no more.
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    # As storage.clock has it.
    sa.Column("seen", sa.Float, nullable=False),
    sa.Column("doubted", sa.Float, nullable=False),
)

# What servers that did not know Alembic look at. The number stays as it is, and is too high for them.
old_schema = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))
_OLD_VERSION = 3

# As Alembic makes it; one row.
schema = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

sa.Index("jobs_by_state", jobs.c.state)
sa.Index("jobs_by_end", jobs.c.end_time)
sa.Index("blobs_of_jobs", job_blobs.c.sha256)


class SchemaError(Exception):
    """The database is of a version that this program cannot use."""


def open_engine(url: str | sa.URL, *, safe: bool = True) -> sa.Engine:
    """An engine for a database.

    Args:
        safe: whether SQLite is to put every commit on the disk; off for what nobody will come back to.
    """
    # One thread writes, some read, one looks whether the database answers, and metrics ask for its size.
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
            # SQLite takes any bytes for text; a job whose text is damaged must not keep others from being read.
            connection.text_factory = _read_text

    return engine


def _read_text(data: bytes) -> str:
    return data.decode(errors="replace")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that sees the database as it is at its first query, whatever others write meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Python's driver would begin a transaction only to write.
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction during which no other server makes tables or takes the database."""
    with engine.begin() as connection:
        match engine.dialect.name:
            case "sqlite":
                # Python's driver would begin a transaction only to write rows.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            case "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def migrate(engine: sa.Engine, latest: str = REVISION, steps: Path = STEPS) -> None:
    """Makes the tables, or brings those of an older version up to date.

    Args:
        latest: their revision.
        steps: Alembic's folder with the steps to it, whose revisions are numbers of four digits.

    Raises:
        SchemaError: they are of a later version, or a step fails; they are as they were.
    """
    with alone(engine) as connection:
        found = _revision(connection)
        if found is None:
            metadata.create_all(connection)
            schema.create(connection)
            connection.execute(old_schema.insert().values(version=_OLD_VERSION))
            connection.execute(schema.insert().values(version_num=latest))
        elif found != latest:
            if not (found.isdecimal() and "0000" < found < latest):
                raise SchemaError(
                    f"was made by a later version of gramophone (schema {found}, this one knows {latest})"
                )
            # Here, so that a server whose database is up to date starts without Alembic.
            from .migrations.upgrade import upgrade

            upgrade(connection, found, steps)


def _revision(connection: sa.Connection) -> str | None:
    """The revision of the tables of a database; None if it has none.

    Raises:
        SchemaError: there are tables, and they do not say.
    """
    inspector = sa.inspect(connection)
    is_old = inspector.has_table(old_schema.name)
    found: str | int | None = None
    if inspector.has_table(schema.name):
        found = connection.execute(sa.select(schema.c.version_num)).scalar()
    if found is None and is_old:
        found = connection.execute(sa.select(old_schema.c.version)).scalar()
        if found is None:
            raise SchemaError("does not say which version of gramophone has made it")
    return None if found is None else str(found).zfill(4)
