"""The base of both connections, synchronous and asynchronous: services, retries, and jobs to cancel at closing."""

from __future__ import annotations

import os
import time
from typing import Any
from weakref import WeakSet

from .brief import NotPicklable
from .retry import Attempts, RetryPolicy
from .stubs import LoopStubs, ProcessStubs
from .uploads import KnownUploads
from .v1 import job_service_pb2


class BaseConnection(NotPicklable):
    """The part of a connection that makes no calls.

    Args:
        target: the server's address.
        policy: when and how long calls are retried.
        stubs: the stubs of the services.
    """

    _instead = "create another client there"
    _shown = ("target",)

    def __init__(self, target: str, policy: RetryPolicy, stubs: ProcessStubs | LoopStubs) -> None:
        self.target = target
        self.policy = policy
        self.uploads = KnownUploads()
        self.stubs = stubs
        # Id of the process that submitted them, and jobs to cancel when the client is closed.
        self._to_cancel: tuple[int, WeakSet[Any]] = os.getpid(), WeakSet()

    def cancel_on_close(self, job: Any) -> None:
        """Remembers a Job, synchronous or asynchronous, that must be canceled when the client is closed."""
        if self._to_cancel[0] != os.getpid():
            self._to_cancel = os.getpid(), WeakSet()
        self._to_cancel[1].add(job)

    def cancel_requests(self) -> list[Any]:
        """Returns the requests that cancel those jobs, without jobs that have already ended."""
        process, jobs = self._to_cancel
        ids = [job.id for job in list(jobs) if job.state in ("queued", "running")] if process == os.getpid() else []
        return [job_service_pb2.CancelJobRequest(job_id=job_id) for job_id in ids]

    @property
    def style(self) -> Any:
        """The stub of StyleTransferService for the channel of this process or event loop."""
        return self.stubs.current().style

    @property
    def jobs(self) -> Any:
        """The stub of JobService for the channel of this process or event loop."""
        return self.stubs.current().jobs

    @property
    def models(self) -> Any:
        """The stub of ModelService for the channel of this process or event loop."""
        return self.stubs.current().models

    def attempts(self, deadline: float | None = None, late_message: str | None = None) -> Attempts:
        """Returns the attempts for a streaming call, until `deadline` (as time.monotonic()); see Attempts."""
        return Attempts(self.policy, self.target, deadline, late_message)

    def attempts_in_time(self) -> Attempts:
        """Returns the attempts for a unary call, until the policy's timeout."""
        timeout = self.policy.timeout
        return self.attempts(None if timeout is None else time.monotonic() + timeout)

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self.stubs.closed
