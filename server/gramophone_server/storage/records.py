"""Reads jobs and events from database rows; a row that cannot be read affects only its own job."""

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import sqlalchemy as sa

from ..blobs import BlobStore, DamagedBlobError
from ..messages.events import Event, Failure, Progress, Result, State
from ..messages.options import JobKind, SynthesisOptions
from ..messages.spec import JobSpec, LevelSpec
from . import codec
from .codec import LaterVersionError, UnreadableError
from .database import events, job_blobs
from .job import Job

log = logging.getLogger(__name__)

Row = Mapping[Any, Any] | sa.RowMapping
# Limits of the contract: of a timestamp (the end of the year 9999), and of a count (32 bits).
_MAX_TIME, _MAX_COUNT = 253_402_300_799.0, 2**31 - 1


class Records:
    """Reads rows.

    Damaged rows still give a job that can be listed, fetched and deleted. A readable end is used; otherwise the job has
    failed with DATA_LOSS or, if a later version stored it, with FAILED_PRECONDITION. Damage is logged once per job.

    Args:
        files: the blobs with the results.
    """

    def __init__(self, files: BlobStore) -> None:
        self._files = files
        self._logged: set[str] = set()

    def job(self, connection: sa.Connection, row: Row, *, with_result: bool) -> Job:
        """Returns the job of a row with its state changes and latest progress.

        Args:
            with_result: whether to read the bytes of the result.
        """
        spec, failure = self._spec(row)
        job = Job(
            row["id"],
            spec,
            owner=_text(row["owner"]),
            request_id=_text(row["request_id"]) or None,
            request_sha256=_text(row["request_sha256"]),
            priority=_count(row["priority"]),
            create_time=_moment(row["create_time"]) or 0.0,
        )
        job.attempts = max(0, _count(row["attempts"]))
        job.start_time, job.end_time = _moment(row["start_time"]), _moment(row["end_time"])
        for event in self._history(connection, job.id, with_result=with_result):
            job.restore(event)
        job.partial = True
        if not job.state.final and row["state"] not in (State.QUEUED.value, State.RUNNING.value):
            reason = f"its state is {row['state']!r}, but there is no record of its end"
            failure = failure or self._data_loss(job.id, "job", reason)
        if not job.state.final and failure is not None:
            job.restore(self._failed(job, failure))
        return job

    def event(self, connection: sa.Connection, row: Row, *, with_result: bool) -> Event:
        """Returns the event of a row; an unreadable end becomes FAILED, another unreadable event RUNNING."""
        job_id, sequence, time = row["job_id"], row["sequence"], _moment(row["time"]) or 0.0
        try:
            state = State(row["state"])
            return Event(sequence, time, state, self._detail(connection, row, state, with_result=with_result))
        except DamagedBlobError as error:
            reason = f"The result file was lost or damaged on the server's disk ({error})"
            return Event(sequence, time, State.FAILED, Failure("DATA_LOSS", f"{reason}; submit the job again."))
        except (ValueError, UnreadableError) as error:
            if row["state"] in (State.SUCCEEDED.value, State.FAILED.value):
                return Event(sequence, time, State.FAILED, self._data_loss(job_id, "job's end", str(error)))
            self._log_once(job_id, f"an event: {error}")
            return Event(sequence, time, State.RUNNING)

    def _history(self, connection: sa.Connection, job_id: str, *, with_result: bool) -> Iterable[Event]:
        of_job = events.c.job_id == job_id
        states = sa.select(events).where(of_job, events.c.state != State.RUNNING.value)
        running = sa.select(events).where(of_job, events.c.state == State.RUNNING.value)
        bare = running.where(events.c.detail.is_(None))
        latest = running.where(events.c.detail.is_not(None)).order_by(events.c.sequence.desc()).limit(1)
        rows = [row for query in (states, bare, latest) for row in connection.execute(query).mappings()]
        for found in sorted((row for row in rows if is_numbered(row)), key=lambda row: int(row["sequence"])):
            yield self.event(connection, found, with_result=with_result)

    def _detail(
        self, connection: sa.Connection, row: Row, state: State, *, with_result: bool
    ) -> Progress | Result | Failure | None:
        match state:
            case State.SUCCEEDED:
                data = self._result(connection, row["job_id"]) if with_result else b""
                return codec.decode_result(row["detail"], data)
            case State.FAILED:
                return codec.decode_failure(row["detail"])
            case State.RUNNING if row["detail"] is not None:
                return codec.decode_progress(row["detail"])
            case _:
                return None

    def _result(self, connection: sa.Connection, job_id: str) -> bytes:
        query = sa.select(job_blobs.c.sha256).where(job_blobs.c.job_id == job_id, job_blobs.c.is_result)
        name = connection.execute(query).scalar()
        if name is None:
            raise UnreadableError("the name of its result file is missing")
        return self._files.get(name)

    def _spec(self, row: Row) -> tuple[JobSpec, Failure | None]:
        """Returns the spec and None; if the spec cannot be read, a placeholder and the failure of its job."""
        try:
            return codec.decode_spec(row["spec"]), None
        except LaterVersionError as error:
            self._log_once(row["id"], str(error))
            message = f"A later version of gramophone stored the job: {error}; submit the job again."
            failure = Failure("FAILED_PRECONDITION", message)
        except UnreadableError as error:
            self._log_once(row["id"], f"its spec: {error}")
            failure = self._data_loss(row["id"], "job", f"its spec cannot be read ({error})")
        except Exception as error:  # An unexpected error must affect only this job, not all others.
            log.exception("job %s cannot be read", row["id"], extra={"job_id": row["id"]})
            failure = self._data_loss(row["id"], "job", f"its spec cannot be read ({type(error).__name__}: {error})")
        return _placeholder_spec(row["kind"], _text(row["model"])), failure

    def _failed(self, job: Job, failure: Failure) -> Event:
        # Without an end time, use the current time: the creation time may be old, and the job would be deleted at once.
        return Event(job.sequence + 1, job.end_time or time.time(), State.FAILED, failure)

    def _data_loss(self, job_id: str, what: str, reason: str) -> Failure:
        self._log_once(job_id, reason)
        message = f"The record of the {what} was lost or damaged on the server's disk: {reason}; submit the job again."
        return Failure("DATA_LOSS", message)

    def _log_once(self, job_id: str, reason: str) -> None:
        if job_id not in self._logged:
            self._logged.add(job_id)
            log.error("job %s cannot be read: %s", job_id, reason, extra={"job_id": job_id})


def is_numbered(row: Row) -> bool:
    """Whether the row of an event has a valid sequence."""
    # The contract has 32 bits; below 2**30, later events have valid sequences too.
    return isinstance(row["sequence"], int) and 0 < row["sequence"] < 2**30


def _moment(value: object) -> float | None:
    """Returns a time in seconds since the epoch; None if it is not one that the contract can represent."""
    is_time = isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= _MAX_TIME
    return float(cast(float, value)) if is_time else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and abs(value) <= _MAX_COUNT else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _placeholder_spec(kind: object, model: str) -> JobSpec:
    """Returns a spec for a job whose spec cannot be read; only its kind and model are meaningful."""
    known = kind if kind in ("style", "content", "transfer") else "unspecified"
    return JobSpec(
        kind=cast(JobKind, known), width=0, height=0, content=None, styles=(), content_layers=(), style_layers=(),
        content_weight=0.0, style_weight=0.0, init_image=None, levels=(LevelSpec(0, 0, 0),),
        options=SynthesisOptions(
            model=model, size=0, fit="square", iterations=0, learning_rate=0.0, init="noise", pooling="max",
            tv_weight=0.0, padding="zeros", loss_scale="paper", warm_start=False, lbfgs_history=0,
        ),
    )  # fmt: skip
