"""Admits jobs: limits how many wait, deduplicates by request id, and stores each job before it is acknowledged."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ..decoding.staging import Staging
from ..messages.spec import JobSpec
from ..storage.errors import AlreadySubmittedError, StorageError
from ..storage.job import Job
from ..storage.store import JobStore
from .queue import JobQueue

log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """The queue is full; `retry_after` estimates when it has room, in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoppingError(Exception):
    """The server is shutting down and accepts no jobs."""


class RequestIdReusedError(Exception):
    """The request id was used for a different request."""


@dataclass(frozen=True)
class Submission:
    """The owner, request id and priority of a new job.

    Attributes:
        owner: name of the client; empty without authentication.
        request_id: the client's id of the submission; None if it has none.
        request_sha256: hash of the request, to detect that an id is reused for a different request.
        priority: rank among the client's own jobs, the highest first.
    """

    owner: str = ""
    request_id: str | None = None
    request_sha256: str = ""
    priority: int = 0


class Admission:
    """Accepts or refuses jobs.

    Args:
        queue: the admitted jobs that wait.
        limit: maximum number of waiting jobs.
        client_limit: maximum number of waiting jobs of one client.
        admitted: is called with each new job after it is stored.

    Attributes:
        open: whether jobs are accepted.
        retry_after: estimated seconds until the queue has room for one more job.
    """

    def __init__(
        self, store: JobStore, queue: JobQueue, limit: int, client_limit: int, admitted: Callable[[Job], None]
    ) -> None:
        self._store = store
        self._queue = queue
        self._limit = limit
        self._client_limit = client_limit
        self._admitted = admitted
        # Number of jobs that are being stored, by owner.
        self._adding: Counter[str] = Counter()
        self._adding_by_id: dict[tuple[str, str], asyncio.Task[Job]] = {}
        self.open = True
        self.retry_after = 10.0

    async def known(self, submission: Submission) -> Job | None:
        """Returns the job of an earlier submission with the same request id; None if there is none.

        Raises:
            RequestIdReusedError: the earlier submission was a different request.
        """
        if submission.request_id is None:
            return None
        if (adding := self._adding_by_id.get((submission.owner, submission.request_id))) is not None:
            # If the earlier submission fails, it leaves no job, and this submission is a new one.
            await asyncio.wait([adding])
        job = await self._store.submitted_as(submission.owner, submission.request_id)
        return job and _check_same_request(job, submission)

    def check_room(self, owner: str) -> None:
        """Checks that one more job of a client may wait.

        Raises:
            QueueFullError: too many jobs wait.
            StoppingError: the server is shutting down.
            StorageAwayError: the job could not be stored now.
        """
        if not self.open:
            raise StoppingError("the server is shutting down")
        self._store.check()
        self._check_numbers(len(self._queue) + self._adding.total(), self._queue.count(owner) + self._adding[owner])

    def _check_numbers(self, waiting: int, own: int) -> None:
        """Checks the numbers of waiting jobs of all clients, and of one client that wants to add one.

        Raises:
            QueueFullError: they are too high.
        """
        if waiting >= self._limit:
            raise QueueFullError(f"{waiting} jobs are waiting already, the maximum of this server", self.retry_after)
        if own >= self._client_limit:
            raise QueueFullError(
                f"{own} of your jobs are waiting already, the maximum for one client", self.retry_after
            )

    async def submit(self, spec: JobSpec, submission: Submission | None = None, staging: Staging | None = None) -> Job:
        """Stores and queues a job, and returns it. A known request id returns the earlier job.

        Args:
            staging: folder with the pixels that the spec refers to but does not contain.

        Raises:
            QueueFullError: too many jobs wait.
            StoppingError: the server is shutting down.
            StorageError: the job cannot be stored.
            RequestIdReusedError: the request id belongs to a different request.
        """
        submission = submission or Submission()
        key = submission.owner, submission.request_id or ""
        while True:
            if (job := await self.known(submission)) is not None:
                return job
            if key not in self._adding_by_id:
                break
        self.check_room(submission.owner)
        # Count the job now: other submissions are checked before the task starts.
        self._adding[submission.owner] += 1
        adding = asyncio.create_task(self._add(spec, submission, staging))
        if submission.request_id is not None:
            self._adding_by_id[key] = adding
            adding.add_done_callback(lambda _: self._adding_by_id.pop(key, None))
        # The job is stored even if the client disconnects meanwhile.
        return await asyncio.shield(adding)

    def _check_all(self, owner: str, waiting: Mapping[str, int]) -> None:
        """Checks the numbers of jobs that wait at all fronts, by client, before a job is added."""
        self._check_numbers(sum(waiting.values()), waiting.get(owner, 0))

    async def _add(self, spec: JobSpec, submission: Submission, staging: Staging | None) -> Job:
        job = Job(
            self._store.ids.next(),
            spec.without_pixels(),
            owner=submission.owner,
            request_id=submission.request_id,
            request_sha256=submission.request_sha256,
            priority=submission.priority,
        )
        try:
            # Keep the staged files until the job is stored, even if the call ends before.
            with staging or contextlib.nullcontext():
                await self._store.add(job, spec, staging.path if staging else None, partial(self._check_all, job.owner))
        except AlreadySubmittedError:
            known = await self._store.submitted_as(submission.owner, submission.request_id or "")
            if known is None:
                raise StorageError("The job was submitted twice and deleted at once; submit it again.") from None
            return _check_same_request(known, submission)
        finally:
            self._adding -= Counter([job.owner])
        self._admitted(job)
        log.info("job %s queued: %s %dx%d", job.id, spec.kind, spec.width, spec.height, extra=job.marks)
        return job


def _check_same_request(job: Job, submission: Submission) -> Job:
    if job.request_sha256 != submission.request_sha256:
        raise RequestIdReusedError(f"is {submission.request_id!r}, which was used for a different request already")
    return job
