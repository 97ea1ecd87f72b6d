"""Jobs as the database and the blobs hold them. Everything here blocks; one thread writes, any may read."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..blobs import BlobStore, is_blob_name
from ..messages.events import Event, Failure, Progress, Result, State
from ..messages.options import JobKind
from ..messages.spec import JobSpec, Mask, Picture
from . import codec
from .clock import Reading
from .database import blobs, events, job_blobs, jobs, reading, schema, uploads
from .holdings import all_bytes
from .job import Job
from .ownership import Claim
from .quotas import Retention, forget_old, make_room
from .records import Records, is_numbered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """Which jobs are wanted, and in which order; empty or None means any.

    Attributes:
        after: the id of the last job of the page before.
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


class Archive:
    """Keeps jobs, their events, and the files of their pictures and results.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or what is on it cannot be used.
    """

    def __init__(self, engine: sa.Engine, files: BlobStore, retention: Retention) -> None:
        self._engine = engine
        self._retention = retention
        self._files = files
        self._records = Records(files)
        self.claim: Claim | None = None
        """That the database is this server's; until it is set nothing is checked."""
        # Names of files that may be there without a row.
        self._left: set[str] = set()

    def add(self, job: Job, spec: JobSpec, event: Event, staged: Path | None = None) -> JobSpec:
        """Keeps a new job with its pixels; its spec with the names of their blobs.

        Args:
            staged: folder with the pixels that the spec names but does not hold, each in a file of its blob's name.

        Raises:
            QuotaExceededError: there is no room for it beside what has to stay.
        """
        sizes: dict[str, int] = {}
        self.make_room(job.owner, {part.blob: part.size for part in spec.pictures() if part.blob}, is_upload=False)

        def keep(part: Picture | Mask) -> Picture | Mask:
            # One picture may stand in two places at one size.
            kept = part if part.blob in sizes else self._keep_pixels(part, staged)
            sizes[kept.blob] = len(kept.pixels) or kept.size
            return kept

        try:
            with self._writing() as connection:
                # The files first: a row never names what is not there.
                kept = spec.with_each(keep).without_pixels()
                connection.execute(
                    jobs.insert().values(
                        id=job.id, owner=job.owner, request_id=job.request_id, request_sha256=job.request_sha256,
                        priority=job.priority, kind=spec.kind, model=spec.model, state=job.state.value,
                        attempts=job.attempts, create_time=job.create_time, spec=codec.encode_spec(kept),
                    )
                )  # fmt: skip
                self._refer(connection, job.id, sizes, is_result=False)
                connection.execute(events.insert().values(_row(job.id, event)))
        except BaseException:
            self._left.update(sizes)
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
        with self._writing() as connection:
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
        with self._writing() as connection:
            ended = connection.execute(sa.select(jobs.c.end_time).where(jobs.c.id == job.id)).first()
            if ended is None:
                log.error("job %s is not in the database any more, and its end is not kept", job.id)
            if ended is None or ended[0] is not None:
                return
            if isinstance(event.detail, Result):
                data = event.detail.image.data
                self._refer(connection, job.id, {self._files.put(data): len(data)}, is_result=True)
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
        where = [
            query.states and jobs.c.state.in_([state.value for state in query.states]),
            query.kinds and jobs.c.kind.in_(query.kinds),
            query.model and jobs.c.model == query.model,
            query.owner is not None and jobs.c.owner == query.owner,
            query.created_after is not None and jobs.c.create_time >= query.created_after,
            query.created_before is not None and jobs.c.create_time < query.created_before,
            query.after and (jobs.c.id > query.after if query.oldest_first else jobs.c.id < query.after),
        ]
        wanted = sa.select(jobs).where(*(clause for clause in where if isinstance(clause, sa.ColumnElement)))
        wanted = wanted.order_by(jobs.c.id if query.oldest_first else jobs.c.id.desc()).limit(query.limit)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted).mappings().all()
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
        with self._writing() as connection:
            connection.execute(jobs.delete().where(jobs.c.id.in_(list(job_ids))))
        self.sweep()

    def sweep(self) -> None:
        """Forgets the files that nothing refers to."""
        with self._writing() as connection:
            used = sa.union(sa.select(job_blobs.c.sha256), sa.select(uploads.c.sha256))
            names: Sequence[str] = (
                connection.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.not_in(used))).scalars().all()
            )
            connection.execute(blobs.delete().where(blobs.c.sha256.in_(names)))
        self._left.update(names)
        self._remove_left()

    def probe(self) -> None:
        """Sees that the database and the folder of files can be written."""
        with self._writing() as connection:
            if self._engine.dialect.name == "postgresql":
                # Whoever works on a table keeps us from it, and not from the others.
                names = ", ".join(table.name for table in (jobs, events, blobs, job_blobs, uploads))
                connection.execute(sa.text(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE"))
            connection.execute(schema.update().values(version_num=schema.c.version_num))
        self._files.probe()

    def look(self) -> None:
        """Looks at the database: quick, if it answers at all."""
        with self._engine.connect() as connection:
            connection.execute(sa.select(schema.c.version_num)).first()

    def has_files(self) -> bool:
        """Whether any file should be there."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(blobs.c.sha256).limit(1)).first() is not None

    def check_files(self) -> None:
        """Sees that the folder of files is there."""
        self._files.check()

    def disown(self, job_ids: Iterable[str]) -> None:
        """Removes jobs that were never acknowledged, if they are there, and their files."""
        with self._writing() as connection:
            connection.execute(jobs.delete().where(jobs.c.id.in_(list(job_ids)), jobs.c.end_time.is_(None)))
        self.sweep()

    def remove_strays(self) -> None:
        """Removes files that no row names: those of a write that was cut off before its row."""
        with self._engine.connect() as connection:
            known: set[str] = set(connection.execute(sa.select(blobs.c.sha256)).scalars())
        for name in list(self._files.names()):
            if name not in known:
                self._files.delete(name)

    def _remove_left(self) -> None:
        """Removes the files that have been left without a row."""
        if not self._left:
            return
        with self._engine.connect() as connection:
            wanted = sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(self._left))
            self._left -= set(connection.execute(wanted).scalars())
        self._files.check()
        for name in list(self._left):
            self._files.delete(name)
            self._left.discard(name)

    def make_room(self, owner: str, sizes: Mapping[str, int], *, is_upload: bool) -> None:
        """Has there be room for files of a client, by their sizes in bytes.

        Raises:
            QuotaExceededError: there is none beside what has to stay.
        """
        with self._writing() as connection:
            made = make_room(connection, owner, sizes, self._retention, is_upload=is_upload)
        if made:
            self.sweep()

    def forget(self, now: Reading, uploads_last: float) -> None:
        """Forgets what is old at a time and more than there is room for. Keeps the time.

        Args:
            uploads_last: seconds after their last use for which uploads are kept.
        """
        with self._writing() as connection:
            if self.claim is not None:
                self.claim.note(connection, now)
            forget_old(connection, now.time, self._retention, uploads_last)
        self.sweep()

    def add_upload(self, owner: str, data: bytes) -> str:
        """Keeps a picture file of a client's; its SHA-256.

        Raises:
            QuotaExceededError: there is no room for it beside what has to stay.
        """
        name = hashlib.sha256(data).hexdigest()
        self._add_upload(owner, name, len(data), lambda: self._files.put(data))
        return name

    def add_upload_file(self, owner: str, name: str, size: int, file: Path) -> None:
        """Keeps a picture file of a client's, of so many bytes and with that SHA-256.

        Raises:
            QuotaExceededError: there is no room for it beside what has to stay.
        """
        self._add_upload(owner, name, size, lambda: self._files.adopt(name, file))

    def _add_upload(self, owner: str, name: str, size: int, keep: Callable[[], object]) -> None:
        self.make_room(owner, {name: size}, is_upload=True)
        try:
            keep()
            with self._writing() as connection:
                self._count(connection, {name: size})
                if not self._touch(connection, owner, name):
                    connection.execute(uploads.insert().values(owner=owner, sha256=name, used=time.time()))
        except BaseException:
            self._left.add(name)
            raise

    def use_upload(self, owner: str, name: str) -> None:
        """Counts a file that a client has uploaded as used now."""
        with self._writing() as connection:
            self._touch(connection, owner, name)

    def has_upload(self, owner: str, name: str) -> int | None:
        """The size of a file that a client has uploaded, if it has, and if it is as it was."""
        mine = sa.select(uploads.c.sha256).where(uploads.c.owner == owner, uploads.c.sha256 == name)
        with self._engine.connect() as connection:
            size = connection.execute(sa.select(blobs.c.size).where(blobs.c.sha256.in_(mine))).scalar()
        return size if size is not None and self._files.is_good(name) else None

    def upload_file(self, owner: str, name: str) -> Path | None:
        """The file that a client has uploaded, if it has; it may have been damaged since."""
        if not is_blob_name(name):
            return None
        wanted = sa.select(uploads.c.sha256).where(uploads.c.owner == owner, uploads.c.sha256 == name)
        with self._engine.connect() as connection:
            found = connection.execute(wanted).scalar()
        return self._files.file(found) if found else None

    def size(self) -> int:
        """Bytes of all files together."""
        with self._engine.connect() as connection:
            return all_bytes(connection)

    def _touch(self, connection: sa.Connection, owner: str, name: str) -> bool:
        where = (uploads.c.owner == owner, uploads.c.sha256 == name)
        return connection.execute(uploads.update().where(*where).values(used=time.time())).rowcount > 0

    def _mend(self, job: Job) -> None:
        """Keeps the end of a job whose rows do not agree about it, or of whose end there is none."""
        end = next(event for event in reversed(job.history()) if event.state.final)
        with self._writing() as connection:
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

    def _count(self, connection: sa.Connection, sizes: dict[str, int]) -> None:
        """Sees that blobs have a row."""
        known: set[str] = set(connection.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(sizes))).scalars())
        fresh = [{"sha256": name, "size": size} for name, size in sizes.items() if name not in known]
        if fresh:
            connection.execute(blobs.insert(), fresh)

    def _refer(self, connection: sa.Connection, job_id: str, sizes: dict[str, int], *, is_result: bool) -> None:
        self._count(connection, sizes)
        wanted = sa.select(job_blobs.c.sha256).where(job_blobs.c.job_id == job_id)
        already: set[str] = set(connection.execute(wanted).scalars())
        rows = [{"job_id": job_id, "sha256": n, "is_result": is_result} for n in sizes if n not in already]
        if rows:
            connection.execute(job_blobs.insert(), rows)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction in which the database is this server's.

        Raises:
            TakenOverError: it is another's.
        """
        with self._engine.begin() as connection:
            if self.claim is not None:
                self.claim.check(connection)
            yield connection


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
