"""What a server may write in its database."""

from typing import ClassVar

import sqlalchemy as sa

from .clock import ClockReading


class Rights:
    """The rights of a server that has not claimed its database: it may write everything, and nobody else does.

    Subclasses are the claim of a single server, and the membership of a front of a cluster.

    Attributes:
        alone: whether no other server writes to the database.
    """

    alone: ClassVar[bool] = True

    def check(self, connection: sa.Connection) -> None:
        """Checks in a write transaction that this server may write, and keeps others from ending that until its end.

        Raises:
            OSError: it may not.
        """

    def save_clock(self, connection: sa.Connection, reading: ClockReading) -> None:
        """Stores a clock reading in the database."""

    def owned(self) -> sa.ColumnElement[bool]:
        """Returns the condition on rows of jobs whose states, events and ends this server may write."""
        return sa.true()

    def keep_files(self, connection: sa.Connection) -> None:
        """Keeps others from removing files until the end of a transaction that writes files and then their rows."""

    def may_remove(self, connection: sa.Connection) -> bool:
        """Returns whether unused files may be removed until the end of the transaction: nobody else writes any."""
        return True

    def announce(self, connection: sa.Connection, notice: str) -> None:
        """Sends a notice of `cluster.notices` to all fronts when the transaction commits."""
