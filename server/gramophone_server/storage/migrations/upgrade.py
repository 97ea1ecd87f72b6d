"""Runs the steps that a database has not had."""

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from ..database import SchemaError
from ..errors import reason_of

log = logging.getLogger(__name__)
# Alembic would say at level INFO how it works, and that for every database.
logging.getLogger("alembic").setLevel(logging.WARNING)


def upgrade(connection: sa.Connection, found: str, steps: Path) -> None:
    """Brings a database from a revision to the latest, in the transaction of its connection.

    Args:
        found: the revision of its tables, whether or not the database says so as Alembic does.
        steps: Alembic's folder of them.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away or locked.
        SchemaError: a step fails; the transaction has to be rolled back.
    """
    config = Config()
    config.set_main_option("script_location", str(steps).replace("%", "%%"))
    config.attributes["connection"] = connection
    log.info("the database of jobs is upgraded from schema %s", found)
    try:
        command.stamp(config, found)
        command.upgrade(config, "head")
    except sa.exc.OperationalError:
        raise
    except (sa.exc.SQLAlchemyError, CommandError) as error:
        # The database is as good as before, and must not be taken for a damaged one.
        raise SchemaError(f"cannot be upgraded from schema {found}: {reason_of(error)}") from error
