"""Write transactions, which fail if another server has claimed the database."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from .ownership import Claim


class Transactions:
    """Begins transactions on a database.

    Attributes:
        engine: the engine of the database.
        claim: this server's ownership of the database; while None, ownership is not checked.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.claim: Claim | None = None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Begins a write transaction after a check that this server owns the database.

        Raises:
            TakenOverError: another server owns it.
        """
        with self.engine.begin() as connection:
            if self.claim is not None:
                self.claim.check(connection)
            yield connection
