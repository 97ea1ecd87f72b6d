"""Queries for jobs."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..messages.events import State
from ..messages.options import JobKind
from .database import jobs


@dataclass(frozen=True)
class Query:
    """Filters and order of jobs; an empty or None filter matches all jobs.

    Attributes:
        limit: maximum number of jobs.
        created_after, created_before: seconds since the epoch; the first is inclusive, the second exclusive.
        after: the id of the last job of the previous page.
    """

    limit: int
    states: tuple[State, ...] = ()
    kinds: tuple[JobKind, ...] = ()
    model: str = ""
    owner: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    oldest_first: bool = False
    after: str = ""

    def statement(self) -> sa.Select[Any]:
        """Returns the SQL statement, which selects rows of jobs."""
        where = [
            self.kinds and jobs.c.kind.in_(self.kinds),
            self.model and jobs.c.model == self.model,
            self.owner is not None and jobs.c.owner == self.owner,
            self.created_after is not None and jobs.c.create_time >= self.created_after,
            self.created_before is not None and jobs.c.create_time < self.created_before,
            self.after and (jobs.c.id > self.after if self.oldest_first else jobs.c.id < self.after),
        ]
        others = [clause for clause in where if isinstance(clause, sa.ColumnElement)]
        if not self.states:
            return self._page(sa.select(jobs).where(*others))
        # One page of each state, which an index has in order: for several states at once, all their jobs are sorted.
        states = dict.fromkeys(self.states)
        pages = [self._page(sa.select(jobs.c.id).where(jobs.c.state == state.value, *others)) for state in states]
        ids = sa.union_all(*(sa.select(page.subquery().c.id) for page in pages))
        return self._page(sa.select(jobs).where(jobs.c.id.in_(ids)))

    def _page(self, wanted: sa.Select[Any]) -> sa.Select[Any]:
        return wanted.order_by(jobs.c.id if self.oldest_first else jobs.c.id.desc()).limit(self.limit)
