"""Jobs as the database and the blobs hold them. Everything here blocks; one thread writes, any may read."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..blobs import BlobStore
from ..messages.events import Event, Failure, Progress, Result, State
from ..messages.spec import JobSpec, Mask, Picture
from . import codec
from .database import events, jobs, reading
from .job import Job
from .query import Query
from .quotas import Retention
from .records import Records, is_numbered
from .stored_files import StoredFiles
from .transactions import Transactions
from .uploads import UploadArchive

log = logging.getLogger(__name__)


class Archive:
    """Keeps jobs, their events, and the files of their pictures and results.

    Attributes:
        transactions: on the database.
        stored: files of jobs and uploads, and the room that there is for them.
        uploads: pictures that clients have sent ahead.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or what is on it cannot be used.
    """

    def __init__(self, engine: sa.Engine, files: BlobStore, retention: Retention) -> None:
        self._engine = engine
        self._files = files
        self._records = Records(files)
        self.transactions = Transactions(engine)
        self.stored = StoredFiles(self.transactions, files, retention)
        self.uploads = UploadArchive(self.transactions, files, self.stored)

    def add(self, job: Job, spec: JobSpec, event: Event, staged: Path | None = None) -> JobSpec:
        """Keeps a new job with its pixels; its spec with the names of their blobs.

        Args:
            staged: folder with the pixels that the spec names but does not hold, each in a file of its blob's name.

        Raises:
            QuotaExceededError: there is no room for it beside what has to stay.
        """
        sizes: dict[str, int] = {}
        self.stored.make_room(
            job.owner, {part.blob: part.size for part in spec.pictures() if part.blob}, is_upload=False
        )

        def keep(part: Picture | Mask) -> Picture | Mask:
            # One picture may stand in two places at one size.
            kept = part if part.blob in sizes else self._keep_pixels(part, staged)
            sizes[kept.blob] = len(kept.pixels) or kept.size
            return kept

        try:
            with self.transactions.writing() as connection:
                # The files first: a row never names what is not there.
                kept = spec.with_each(keep).without_pixels()
                connection.execute(
                    jobs.insert().values(
                        id=job.id, owner=job.owner, request_id=job.request_id, request_sha256=job.request_sha256,
                        priority=job.priority, kind=spec.kind, model=spec.model, state=job.state.value,
                        attempts=job.attempts, create_time=job.create_time, spec=codec.encode_spec(kept),
                    )
                )  # fmt: skip
                self.stored.refer(connection, job.id, sizes, is_result=False)
                connection.execute(events.insert().values(_row(job.id, event)))
        except BaseException:
            self.stored.leave(sizes)
            raise
        return kept

    def _keep_pixels(self, part: Picture | Mask, staged: Path | None) -> Picture | Mask:
        if part.pixels or staged is None:
            return replace(part, blob=self._files.put(part.pixels))
        self._files.adopt(part.blob, staged / part.blob)
        return part

    def record(self, news: Sequence[tuple[Job, Event]]) -> None:
        """Keeps events of jobs, none of them final, and where the jobs stand; once, if it is called again with them.

        Of a job that was deleted it keeps nothing.
        """
        with self.transactions.writing() as connection:
            known = self._known(connection, {job.id for job, _ in news})
            there = self._there(connection, known, min(event.sequence for _, event in news))
            rows = [_row(job.id, e) for job, e in news if job.id in known and (job.id, e.sequence) not in there]
            if rows:
                connection.execute(events.insert(), rows)
            for job in {job.id: job for job, event in news if event.detail is None and job.id in known}.values():
                connection.execute(
                    jobs.update()
                    .where(jobs.c.id == job.id, jobs.c.end_time.is_(None))
                    .values(state=job.state.value, start_time=job.start_time, attempts=job.attempts)
                )

    def end(self, job: Job, event: Event) -> None:
        """Keeps the end of a job, with the file of its result; once, if it is called again. The first end stays."""
        with self.transactions.writing() as connection:
            ended = connection.execute(sa.select(jobs.c.end_time).where(jobs.c.id == job.id)).first()
            if ended is None:
                log.error("job %s is not in the database any more, and its end is not kept", job.id)
            if ended is None or ended[0] is not None:
                return
            if isinstance(event.detail, Result):
                data = event.detail.image.data
                self.stored.refer(connection, job.id, {self._files.put(data): len(data)}, is_result=True)
            connection.execute(events.insert().values(_row(job.id, event)))
            connection.execute(
                jobs.update()
                .where(jobs.c.id == job.id)
                .values(state=event.state.value, end_time=event.time, start_time=job.start_time, attempts=job.attempts)
            )

    def load(self, job_id: str, *, with_result: bool = True) -> Job | None:
        """A job with its states and its latest progress; without the bytes of its result unless they are wanted.

        A result whose file is lost makes the job one that failed.
        """
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()
            return self._records.job(connection, row, with_result=with_result) if row else None

    def unfinished(self) -> list[Job]:
        """The jobs that have not ended, those that ran before those that waited, the oldest first.

        One whose record cannot be read ends here, as failed.
        """
        final = [state.value for state in State if state.final]
        wanted = sa.select(jobs).where(jobs.c.end_time.is_(None) | jobs.c.state.not_in(final))
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.order_by(jobs.c.attempts == 0, jobs.c.id)).mappings().all()
            found = [self._records.job(connection, row, with_result=False) for row in rows]
        for job in found:
            if job.state.final:
                self._mend(job)
        return [job for job in found if not job.state.final]

    def find(self, query: Query) -> list[Job]:
        """The jobs of a query, without their results."""
        with reading(self._engine) as connection:
            rows = connection.execute(query.statement()).mappings().all()
            return [self._records.job(connection, row, with_result=False) for row in rows]

    def latest(self) -> str | None:
        """The highest id of a job."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(jobs.c.id))).scalar()

    def submitted_as(self, owner: str, request_id: str) -> str | None:
        """The id of the job that its client submitted under a name."""
        wanted = sa.select(jobs.c.id).where(jobs.c.owner == owner, jobs.c.request_id == request_id)
        with self._engine.connect() as connection:
            return connection.execute(wanted).scalar()

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """At most `limit` events of a job, in order, with a higher sequence than `after`."""
        wanted = sa.select(events).where(events.c.job_id == job_id, events.c.sequence > after)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(events.c.sequence).limit(limit)).mappings().all()
            return [self._records.event(connection, row, with_result=True) for row in rows if is_numbered(row)]

    def delete(self, job_ids: Iterable[str]) -> None:
        """Forgets jobs, and the files that nothing refers to any more."""
        with self.transactions.writing() as connection:
            connection.execute(jobs.delete().where(jobs.c.id.in_(list(job_ids))))
        self.stored.sweep()

    def disown(self, job_ids: Iterable[str]) -> None:
        """Removes jobs that were never acknowledged, if they are there, and their files."""
        with self.transactions.writing() as connection:
            connection.execute(jobs.delete().where(jobs.c.id.in_(list(job_ids)), jobs.c.end_time.is_(None)))
        self.stored.sweep()

    def _mend(self, job: Job) -> None:
        """Keeps the end of a job whose rows do not agree about it, or of whose end there is none."""
        end = next(event for event in reversed(job.history()) if event.state.final)
        with self.transactions.writing() as connection:
            if not self._there(connection, {job.id}, end.sequence):
                connection.execute(events.insert().values(_row(job.id, end)))
            ended = jobs.update().where(jobs.c.id == job.id)
            connection.execute(ended.values(state=end.state.value, end_time=end.time))

    def _known(self, connection: sa.Connection, ids: set[str]) -> set[str]:
        return set(connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(ids))).scalars())

    def _there(self, connection: sa.Connection, ids: set[str], least: int) -> set[tuple[str, int]]:
        """The events of jobs, from a sequence on, that are kept already."""
        wanted = sa.select(events.c.job_id, events.c.sequence).where(events.c.job_id.in_(ids))
        found = connection.execute(wanted.where(events.c.sequence >= least)).mappings()
        return {(row["job_id"], row["sequence"]) for row in found if is_numbered(row)}


def _row(job_id: str, event: Event) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "sequence": event.sequence,
        "time": event.time,
        "state": event.state.value,
        "detail": None if event.detail is None else _text(event.detail),
    }


def _text(detail: Progress | Result | Failure) -> str:
    match detail:
        case Progress():
            return codec.encode_progress(detail)
        case Result():
            return codec.encode_result(detail)
        case Failure():
            return codec.encode_failure(detail)
