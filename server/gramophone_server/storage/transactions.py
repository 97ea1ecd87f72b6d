"""Write transactions, which fail if another server has claimed the database."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from .rights import Rights


class Transactions:
    """Begins transactions on a database.

    Attributes:
        engine: the engine of the database.
        rights: what this server may write; everything until it has claimed the database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.rights = Rights()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Begins a write transaction after a check that this server may write.

        Raises:
            TakenOverError: another server owns the database.
            StaleLeaseError: this front of a cluster has lost its leases.
        """
        with self.engine.begin() as connection:
            self.rights.check(connection)
            yield connection
