"""Runs the migrations that a database needs."""

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from ..database import SchemaError
from ..errors import reason_of

log = logging.getLogger(__name__)
# At level INFO, Alembic logs internals for every database.
logging.getLogger("alembic").setLevel(logging.WARNING)


def upgrade(connection: sa.Connection, found: str, migrations: Path) -> None:
    """Migrates a database to the latest revision, in the current transaction of the connection.

    Args:
        found: the revision of its tables; Alembic's own table may not have it yet.
        migrations: Alembic's folder of migrations.

    Raises:
        sqlalchemy.exc.OperationalError: the database is unavailable or locked.
        SchemaError: a migration fails; the caller must roll the transaction back.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    log.info("the database of jobs is upgraded from schema %s", found)
    try:
        command.stamp(config, found)
        command.upgrade(config, "head")
    except sa.exc.OperationalError:
        raise
    except (sa.exc.SQLAlchemyError, CommandError) as error:
        # The rollback leaves the database intact: this must not count as a damaged database.
        raise SchemaError(f"cannot be upgraded from schema {found}: {reason_of(error)}") from error
