"""What connections of both kinds of client have: their services, their tries, and the jobs that end with them."""

from __future__ import annotations

import os
import time
from typing import Any
from weakref import WeakSet

from .brief import Rooted
from .retry import Attempts, RetryPolicy
from .stubs import LoopStubs, ProcessStubs
from .uploads import Library
from .v1 import job_service_pb2


class BaseConnection(Rooted):
    """The part of a connection that never waits.

    Args:
        target: the server's address.
        policy: how patient calls are.
        stubs: the services.
    """

    _instead = "make another client there"
    _shown = ("target",)

    def __init__(self, target: str, policy: RetryPolicy, stubs: ProcessStubs | LoopStubs) -> None:
        self.target = target
        self.policy = policy
        self.library = Library()
        self.stubs = stubs
        # Jobs that are to end with the client, and the process that they are of.
        self._ending: tuple[int, WeakSet[Any]] = os.getpid(), WeakSet()

    def ends_with_client(self, job: Any) -> None:
        """Notes a job, of either kind, that is cancelled when the client is closed."""
        if self._ending[0] != os.getpid():
            self._ending = os.getpid(), WeakSet()
        self._ending[1].add(job)

    def left_over(self) -> list[Any]:
        """The requests that cancel those jobs, but for what is known to have ended."""
        process, jobs = self._ending
        ids = [job.id for job in list(jobs) if job.state in ("queued", "running")] if process == os.getpid() else []
        return [job_service_pb2.CancelJobRequest(job_id=job_id) for job_id in ids]

    @property
    def style(self) -> Any:
        """The StyleTransferService, over the channel of this process or event loop."""
        return self.stubs.here().style

    @property
    def jobs(self) -> Any:
        """The JobService, likewise."""
        return self.stubs.here().jobs

    @property
    def models(self) -> Any:
        """The ModelService, likewise."""
        return self.stubs.here().models

    def attempts(self, deadline: float | None = None, late: str | None = None) -> Attempts:
        """The tries of a stream, until `deadline` in the time of time.monotonic()."""
        return Attempts(self.policy, self.target, deadline, late)

    def attempts_in_time(self) -> Attempts:
        """The tries of a call that is not a stream."""
        timeout = self.policy.timeout
        return self.attempts(None if timeout is None else time.monotonic() + timeout)

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self.stubs.closed
