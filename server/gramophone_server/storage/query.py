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
            self.states and jobs.c.state.in_([state.value for state in self.states]),
            self.kinds and jobs.c.kind.in_(self.kinds),
            self.model and jobs.c.model == self.model,
            self.owner is not None and jobs.c.owner == self.owner,
            self.created_after is not None and jobs.c.create_time >= self.created_after,
            self.created_before is not None and jobs.c.create_time < self.created_before,
            self.after and (jobs.c.id > self.after if self.oldest_first else jobs.c.id < self.after),
        ]
        wanted = sa.select(jobs).where(*(clause for clause in where if isinstance(clause, sa.ColumnElement)))
        return wanted.order_by(jobs.c.id if self.oldest_first else jobs.c.id.desc()).limit(self.limit)
