"""Changes jobs that no front holds: puts those back into the queue whose front is gone, and cancels waiting ones."""

import time

import sqlalchemy as sa

from ...messages.events import State
from ..database import events, fronts, jobs, previews
from ..job import SEQUENCE_GAP
from ..notice import EVENTS, WORK, of_job
from .notices import notify


def requeue(connection: sa.Connection, token: int | None = None, *, orphaned: bool = False) -> int:
    """Puts the unfinished jobs of a front back into the queue, each with an event; returns their number.

    Args:
        token: the front, whose row is deleted.
        orphaned: whether instead to take jobs whose front has no row, and running jobs without a front.
    """
    lost = jobs.c.front == token
    if orphaned:
        gone = jobs.c.front.is_not(None) & jobs.c.front.not_in(sa.select(fronts.c.token))
        lost = gone | (jobs.c.front.is_(None) & (jobs.c.state == State.RUNNING.value))
    wanted = (
        sa.select(jobs.c.id, jobs.c.canceled)
        .where(jobs.c.end_time.is_(None), lost)
        .order_by(jobs.c.id)
        .with_for_update()
    )
    found = connection.execute(wanted).all()
    for job_id, canceled in found:
        append(connection, str(job_id), State.CANCELLED if canceled else State.QUEUED, SEQUENCE_GAP)
    if found:
        notify(connection, WORK)
    return len(found)


def append(connection: sa.Connection, job_id: str, state: State, skip: int = 1) -> None:
    """Adds an event without a detail to a job, which no front holds from then on.

    Args:
        skip: how much higher its sequence is than that of the last event.
    """
    latest = sa.select(sa.func.coalesce(sa.func.max(events.c.sequence), 0)).where(events.c.job_id == job_id)
    sequence, now = connection.execute(latest).scalar_one() + skip, time.time()
    connection.execute(events.insert().values(job_id=job_id, sequence=sequence, time=now, state=state.value))
    change = jobs.update().where(jobs.c.id == job_id)
    connection.execute(change.values(state=state.value, front=None, end_time=now if state.final else None))
    connection.execute(previews.delete().where(previews.c.job_id == job_id))
    notify(connection, of_job(EVENTS, job_id))
