"""Deletes jobs and uploads, and finds the blobs that nothing uses afterwards; the cost follows what is deleted."""

from collections.abc import Sequence

import sqlalchemy as sa

from .database import blobs, freed, job_blobs, jobs, uploads

# Blobs that are checked at once.
_BATCH = 500


def delete_jobs(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
    """Deletes jobs with their events, and notes their blobs for `take_unused`; returns the number of jobs."""
    gone = sa.select(jobs.c.id).where(*where)
    names = sa.select(job_blobs.c.sha256).where(job_blobs.c.job_id.in_(gone))
    connection.execute(freed.insert().from_select(["sha256"], names))
    return connection.execute(jobs.delete().where(*where)).rowcount


def delete_uploads(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
    """Deletes uploads, and notes their blobs for `take_unused`; returns the number of uploads."""
    connection.execute(freed.insert().from_select(["sha256"], sa.select(uploads.c.sha256).where(*where)))
    return connection.execute(uploads.delete().where(*where)).rowcount


def take_unused(connection: sa.Connection) -> tuple[set[str], bool]:
    """Deletes the rows of some noted blobs that nothing uses.

    Returns:
        The names of these blobs, and whether more blobs are noted.
    """
    noted: Sequence[sa.Row[tuple[int, str]]] = connection.execute(
        sa.select(freed.c.id, freed.c.sha256).order_by(freed.c.id).limit(_BATCH)
    ).all()
    names = {row.sha256 for row in noted}
    for table in (job_blobs, uploads):
        names -= set(connection.execute(sa.select(table.c.sha256).where(table.c.sha256.in_(names))).scalars())
    connection.execute(blobs.delete().where(blobs.c.sha256.in_(names)))
    # Only the notes that were read: another front may be adding one for the same blob.
    connection.execute(freed.delete().where(freed.c.id.in_([row.id for row in noted])))
    return names, len(noted) == _BATCH


def unknown_blobs(connection: sa.Connection, names: Sequence[str]) -> list[str]:
    """Returns which of the files are not blobs of the database."""
    unknown: list[str] = []
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        known: set[str] = set(connection.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(batch))).scalars())
        unknown += [name for name in batch if name not in known]
    return unknown
