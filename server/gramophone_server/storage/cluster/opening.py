"""Opens the database as one front of a cluster, and joins the cluster again after the front has lost its leases."""

import logging

import sqlalchemy as sa

from ..clock import AgeClock
from ..database import jobs
from ..folder import DataFolderError
from ..opening import DatabaseOpener, OpenedDatabase
from ..ownership import TakenOverError
from .membership import Membership, join, joining, others

log = logging.getLogger(__name__)


class ClusterOpener(DatabaseOpener):
    """Opens a database for a front of a cluster. All methods block.

    Attributes:
        lease: seconds for which a renewal of the front's leases is valid.
        member: the front's membership, after `open`.
    """

    lease: float = 10.0
    member: Membership

    def join(self) -> AgeClock:
        """Joins the cluster with a new token; returns the clock, which continues from its last reading.

        Raises:
            DataFolderError: the database belongs to another folder.
        """
        mine = self._claim(joins=True)
        self.member = join(self._engine, mine, self._folder, self.lease)
        self._archive.transactions.rights = self.member
        self._folder.token = self.member.token
        return AgeClock(mine.last)

    def join_again(self) -> None:
        """Joins the cluster again after other fronts have taken over the leases of this one.

        Raises:
            TakenOverError: a server that is not of the cluster has taken the database.
        """
        with joining(self._engine):
            try:
                self.join()
            except DataFolderError as error:
                raise TakenOverError from error
            self._folder.staging.mkdir(parents=True, exist_ok=True)

    def _take_possession(self) -> OpenedDatabase:
        with joining(self._engine):
            clock = self.join()
            self._make_ready()
            alone = not others(self._engine, self.member)
            if alone or self._folder.private:
                with self._engine.connect() as connection:
                    unfinished = connection.execute(sa.select(jobs.c.id).where(jobs.c.end_time.is_(None)))
                    known: frozenset[str] = frozenset(unfinished.scalars())
                self._remove_leftovers(known, alone=alone)
            # The front that cleaned up may have removed it.
            self._folder.staging.mkdir(parents=True, exist_ok=True)
        return OpenedDatabase([], clock, alone)
