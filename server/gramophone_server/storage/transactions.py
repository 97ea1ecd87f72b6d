"""Transactions on the database, none of which writes to one that has become another server's."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from .ownership import Claim


class Transactions:
    """Begins transactions on a database.

    Attributes:
        engine: of the database.
        claim: that it is this server's; until it is set nothing is checked.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.claim: Claim | None = None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction in which the database is this server's.

        Raises:
            TakenOverError: it is another's.
        """
        with self.engine.begin() as connection:
            if self.claim is not None:
                self.claim.check(connection)
            yield connection
