"""Stores jobs in the database and in blobs. All methods block; only one thread may write, any thread may read."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..blobs import BlobStore
from ..messages.events import Event, Failure, Progress, Result, State
from ..messages.spec import JobSpec, Mask, Picture
from . import codec
from .database import events, jobs, previews, snapshot
from .job import Job
from .notice import EVENTS, WORK, of_job
from .query import Query
from .quotas import Retention
from .records import Records, is_numbered
from .removal import delete_jobs
from .stored_files import StoredFiles
from .transactions import Transactions
from .uploads import UploadArchive

log = logging.getLogger(__name__)


class Archive:
    """Stores jobs, their events, and the files of their pictures and results.

    Attributes:
        transactions: begins transactions on the database.
        stored: the files of jobs and uploads, and their quotas.
        uploads: the uploaded pictures.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or its contents cannot be used.
    """

    def __init__(self, engine: sa.Engine, files: BlobStore, retention: Retention) -> None:
        self._engine = engine
        self._files = files
        self._records = Records(files)
        self.transactions = Transactions(engine)
        self.stored = StoredFiles(self.transactions, files, retention)
        self.uploads = UploadArchive(self.transactions, files, self.stored)

    def add(
        self,
        job: Job,
        spec: JobSpec,
        event: Event,
        staged: Path | None = None,
        admit: Callable[[sa.Connection], bool] = lambda connection: True,
    ) -> JobSpec:
        """Stores a new job with its pixels; returns its spec with blob names in place of the pixels.

        Args:
            staged: folder with the pixels that the spec refers to but does not contain, in files named by blob.
            admit: is called before the job is inserted; returns whether it is not there yet. An exception leaves the
                database unchanged.

        Raises:
            QuotaExceededError: the job does not fit beside the files that cannot be evicted.
        """
        sizes: dict[str, int] = {}
        self.stored.make_room(
            job.owner, {part.blob: part.size for part in spec.pictures() if part.blob}, is_upload=False
        )

        def keep(part: Picture | Mask) -> Picture | Mask:
            # The same picture at the same size may occur twice in a spec.
            kept = part if part.blob in sizes else self._keep_pixels(part, staged)
            sizes[kept.blob] = len(kept.pixels) or kept.size
            return kept

        try:
            for part in spec.pictures():
                self._send_pixels(part, staged)
            with self.transactions.writing() as connection:
                self.transactions.rights.keep_files(connection)
                # Write the files before the rows, so that a row never names a missing file.
                kept = spec.with_each(keep).without_pixels()
                if not admit(connection):
                    return kept
                connection.execute(
                    jobs.insert().values(
                        id=job.id, owner=job.owner, request_id=job.request_id, request_sha256=job.request_sha256,
                        priority=job.priority, kind=spec.kind, model=spec.model, state=job.state.value,
                        attempts=job.attempts, create_time=job.create_time, spec=codec.encode_spec(kept),
                    )
                )  # fmt: skip
                self.stored.link(connection, job.id, sizes, is_result=False)
                connection.execute(events.insert().values(_row(job.id, event)))
                self.transactions.rights.announce(connection, WORK)
        except BaseException:
            self.stored.add_orphans(sizes)
            raise
        return kept

    def _keep_pixels(self, part: Picture | Mask, staged: Path | None) -> Picture | Mask:
        if part.pixels or staged is None:
            return replace(part, blob=self._files.put(part.pixels))
        self._files.adopt(part.blob, staged / part.blob)
        return part

    def _send_pixels(self, part: Picture | Mask, staged: Path | None) -> None:
        if part.pixels or staged is None:
            self._files.send(part.pixels)
        else:
            self._files.send_file(part.blob, staged / part.blob)

    def record(self, new: Sequence[tuple[Job, Event]]) -> None:
        """Stores non-final events of jobs, and the state of the jobs. Repeated calls store each event once.

        Events of deleted jobs are ignored.
        """
        with self.transactions.writing() as connection:
            known = self._own_jobs(connection, {job.id for job, _ in new})
            stored = self._stored_events(connection, known, min(event.sequence for _, event in new))
            rows = [_row(job.id, e) for job, e in new if job.id in known and (job.id, e.sequence) not in stored]
            if rows:
                connection.execute(events.insert(), rows)
            for job in {job.id: job for job, event in new if event.detail is None and job.id in known}.values():
                connection.execute(
                    jobs.update()
                    .where(jobs.c.id == job.id, jobs.c.end_time.is_(None))
                    .values(state=job.state.value, start_time=job.start_time, attempts=job.attempts)
                )
            for job_id in known:
                self.transactions.rights.announce(connection, of_job(EVENTS, job_id))

    def keep_preview(self, job_id: str, event: Event) -> None:
        """Stores the preview of a running job's progress in place of its earlier one."""
        progress = event.detail
        if not isinstance(progress, Progress) or progress.preview is None:
            return
        picture = progress.preview
        with self.transactions.writing() as connection:
            if not self._own_jobs(connection, {job_id}):
                return
            connection.execute(previews.delete().where(previews.c.job_id == job_id))
            connection.execute(
                previews.insert().values(
                    job_id=job_id, sequence=event.sequence, time=event.time, detail=codec.encode_progress(progress),
                    format=picture.format, width=picture.width, height=picture.height, data=picture.data,
                )
            )  # fmt: skip
            self.transactions.rights.announce(connection, of_job(EVENTS, job_id))

    def end(self, job: Job, event: Event) -> bool:
        """Stores the end of a job with the file of its result. If an end is stored already, does nothing.

        Returns:
            whether the job is this server's.
        """
        if isinstance(event.detail, Result):
            self._files.send(event.detail.image.data)
        with self.transactions.writing() as connection:
            mine = sa.select(jobs.c.end_time).where(jobs.c.id == job.id, self.transactions.rights.owned())
            ended = connection.execute(mine).first()
            if ended is None:
                log.error("job %s is no longer in the database; its end is not stored", job.id)
                if isinstance(event.detail, Result):
                    self.stored.add_orphans([hashlib.sha256(event.detail.image.data).hexdigest()])
            if ended is None or ended[0] is not None:
                return ended is not None
            if isinstance(event.detail, Result):
                self.transactions.rights.keep_files(connection)
                data = event.detail.image.data
                self.stored.count(job.owner, len(data))
                self.stored.link(connection, job.id, {self._files.put(data): len(data)}, is_result=True)
            connection.execute(events.insert().values(_row(job.id, event)))
            connection.execute(
                jobs.update()
                .where(jobs.c.id == job.id)
                .values(
                    state=event.state.value, end_time=event.time, start_time=job.start_time, attempts=job.attempts,
                    front=None,
                )
            )  # fmt: skip
            connection.execute(previews.delete().where(previews.c.job_id == job.id))
            self.transactions.rights.announce(connection, of_job(EVENTS, job.id))
            return True

    def load(self, job_id: str, *, with_result: bool = True) -> Job | None:
        """Returns a job with its state changes and latest progress; None if it does not exist.

        A job whose result file is lost is returned as failed.

        Args:
            with_result: whether to read the bytes of the result.
        """
        with snapshot(self._engine) as connection:
            return self.load_in(connection, job_id, with_result=with_result)

    def load_in(self, connection: sa.Connection, job_id: str, *, with_result: bool) -> Job | None:
        """Returns a job as `load` does, in a transaction."""
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()
        return self._records.job(connection, row, with_result=with_result) if row else None

    def unfinished(self) -> list[Job]:
        """Returns the unfinished jobs: first those that ran, then those that waited, each by age, oldest first.

        A job whose record cannot be read is stored as failed, and left out.
        """
        wanted = sa.select(jobs).where(jobs.c.end_time.is_(None) | _not_final())
        with snapshot(self._engine) as connection:
            rows = connection.execute(wanted.order_by(jobs.c.attempts == 0, jobs.c.id)).mappings().all()
            found = [self._records.job(connection, row, with_result=False) for row in rows]
        for job in found:
            if job.state.final:
                self.store_failure(job)
        return [job for job in found if not job.state.final]

    def find(self, query: Query) -> list[Job]:
        """Returns the jobs that match a query, without their results."""
        with snapshot(self._engine) as connection:
            rows = connection.execute(query.statement()).mappings().all()
            return [self._records.job(connection, row, with_result=False) for row in rows]

    def latest(self) -> str | None:
        """Returns the highest job id; None if there are no jobs."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(jobs.c.id))).scalar()

    def submitted_as(self, owner: str, request_id: str) -> str | None:
        """Returns the id of the client's job with this request id; None if there is none."""
        wanted = sa.select(jobs.c.id).where(jobs.c.owner == owner, jobs.c.request_id == request_id)
        with self._engine.connect() as connection:
            return connection.execute(wanted).scalar()

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Returns at most `limit` events of a job with a sequence above `after`, in order."""
        wanted = sa.select(events).where(events.c.job_id == job_id, events.c.sequence > after)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(events.c.sequence).limit(limit)).mappings().all()
            return [self._records.event(connection, row, with_result=True) for row in rows if is_numbered(row)]

    def delete(self, job_ids: Iterable[str]) -> None:
        """Deletes jobs, and files that are no longer used."""
        with self.transactions.writing() as connection:
            delete_jobs(connection, jobs.c.id.in_(list(job_ids)))
        self.stored.remove_unused()

    def delete_unacknowledged(self, job_ids: Iterable[str]) -> None:
        """Deletes unfinished jobs, if they exist, whose submission failed for the client; and their files."""
        with self.transactions.writing() as connection:
            delete_jobs(connection, jobs.c.id.in_(list(job_ids)), jobs.c.end_time.is_(None))
        self.stored.remove_unused()

    def store_failure(self, job: Job) -> None:
        """Stores the end of a job whose rows lack it or contradict each other."""
        end = next(event for event in reversed(job.history()) if event.state.final)
        with self.transactions.writing() as connection:
            if not self._stored_events(connection, {job.id}, end.sequence):
                connection.execute(events.insert().values(_row(job.id, end)))
            ended = jobs.update().where(jobs.c.id == job.id)
            connection.execute(ended.values(state=end.state.value, end_time=end.time))

    def _own_jobs(self, connection: sa.Connection, ids: set[str]) -> set[str]:
        """Returns which of the jobs exist and are this server's."""
        mine = sa.select(jobs.c.id).where(jobs.c.id.in_(ids), self.transactions.rights.owned())
        return set(connection.execute(mine).scalars())

    def _stored_events(self, connection: sa.Connection, ids: set[str], least: int) -> set[tuple[str, int]]:
        """Returns (job id, sequence) of the jobs' stored events with a sequence of at least `least`."""
        wanted = sa.select(events.c.job_id, events.c.sequence).where(events.c.job_id.in_(ids))
        found = connection.execute(wanted.where(events.c.sequence >= least)).mappings()
        return {(row["job_id"], row["sequence"]) for row in found if is_numbered(row)}


def _not_final() -> sa.ColumnElement[bool]:
    """Returns the condition that a job's state is not final, as ranges: an index serves them, but not NOT IN."""
    final = sorted(state.value for state in State if state.final)
    between = (jobs.c.state.between(least, most) for least, most in pairwise(final))
    outside = jobs.c.state < final[0], jobs.c.state > final[-1]
    return sa.or_(*outside, *(gap & jobs.c.state.not_in(final) for gap in between))


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
