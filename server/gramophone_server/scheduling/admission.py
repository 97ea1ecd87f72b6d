"""Who is let in: as many jobs as may wait, each name once, and none that is not on the disk."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..decoding.staging import Staging
from ..messages.spec import JobSpec
from ..storage.job import Job
from ..storage.store import JobStore
from .queue import FairQueue

log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """The queue has no room; `retry_after` is a guess at when it will, in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoppingError(Exception):
    """The server is shutting down and takes no more jobs."""


class RequestIdReusedError(Exception):
    """Another request was submitted under this name."""


@dataclass(frozen=True)
class Submission:
    """Whose a job is, and what its client calls it.

    Attributes:
        owner: its client; empty where clients are not told apart.
        request_id: the client's name for the submission; None for none.
        request_sha256: of the request, to tell whether the same name is for the same request.
        priority: among the client's own jobs, the highest first.
    """

    owner: str = ""
    request_id: str | None = None
    request_sha256: str = ""
    priority: int = 0


class Admission:
    """Takes jobs in.

    Args:
        queue: where jobs wait, as far as they have been let in.
        most: how many may wait.
        most_of_one: how many of one client's.
        admitted: is told of each new job, once it is on the disk.

    Attributes:
        open: whether any are let in.
        retry_after: a guess at when there will be room for one more, in seconds.
    """

    def __init__(
        self, store: JobStore, queue: FairQueue, most: int, most_of_one: int, admitted: Callable[[Job], None]
    ) -> None:
        self._store = store
        self._queue = queue
        self._most = most
        self._most_of_one = most_of_one
        self._admitted = admitted
        self._adding: Counter[str] = Counter()
        self._named: dict[tuple[str, str], asyncio.Task[Job]] = {}
        self.open = True
        self.retry_after = 10.0

    async def known(self, submission: Submission) -> Job | None:
        """The job of an earlier submission of the same name, if there is one.

        Raises:
            RequestIdReusedError: it was for another request.
        """
        if submission.request_id is None:
            return None
        if (adding := self._named.get((submission.owner, submission.request_id))) is not None:
            # One that fails is no job; this submission is then the first.
            await asyncio.wait([adding])
        job = await self._store.submitted_as(submission.owner, submission.request_id)
        return job and _same(job, submission)

    def check_room(self, owner: str) -> None:
        """Sees that one more job of a client may wait.

        Raises:
            QueueFullError: it may not.
            StoppingError: the server is shutting down.
            StorageAwayError: it could not be kept now.
        """
        if not self.open:
            raise StoppingError("the server is shutting down")
        self._store.check()
        waiting = len(self._queue) + self._adding.total()
        if waiting >= self._most:
            raise QueueFullError(
                f"{waiting} jobs are waiting already, which is as many as this server lets wait", self.retry_after
            )
        own = self._queue.count(owner) + self._adding[owner]
        if own >= self._most_of_one:
            raise QueueFullError(
                f"{own} jobs of yours are waiting already, which is as many as this server lets one client have",
                self.retry_after,
            )

    async def submit(self, spec: JobSpec, submission: Submission | None = None, staging: Staging | None = None) -> Job:
        """Queues a job; it is on the disk when this returns. A submission whose name is known gives the job there is.

        Args:
            staging: has the pixels that the spec names but does not hold.

        Raises:
            QueueFullError: too many jobs wait.
            StoppingError: the server is shutting down.
            StorageError: it cannot be kept.
            RequestIdReusedError: the name is of another request.
        """
        submission = submission or Submission()
        key = submission.owner, submission.request_id or ""
        while True:
            if (job := await self.known(submission)) is not None:
                return job
            if key not in self._named:
                break
        self.check_room(submission.owner)
        # Counted from here on: others are let in or not before the task has begun.
        self._adding[submission.owner] += 1
        adding = asyncio.create_task(self._add(spec, submission, staging))
        if submission.request_id is not None:
            self._named[key] = adding
            adding.add_done_callback(lambda _: self._named.pop(key, None))
        # A client that leaves meanwhile has submitted it all the same.
        return await asyncio.shield(adding)

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
            # Its files are needed for as long as this takes, whatever becomes of the call.
            with staging or contextlib.nullcontext():
                await self._store.add(job, spec, staging.path if staging else None)
        finally:
            self._adding -= Counter([job.owner])
        self._admitted(job)
        log.info("job %s queued: %s %dx%d", job.id, spec.kind, spec.width, spec.height, extra=job.marks)
        return job


def _same(job: Job, submission: Submission) -> Job:
    if job.request_sha256 != submission.request_sha256:
        raise RequestIdReusedError(f"is {submission.request_id!r}, under which another request was submitted already")
    return job
