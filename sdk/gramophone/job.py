"""A job that a client has submitted, or come back to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from .channel import CALL_TIMEOUT, REATTACH_ATTEMPTS, backoff
from .errors import DeadlineError, from_rpc
from .history import History
from .v1 import job_service_pb2
from .v1.job_service_pb2_grpc import JobServiceStub
from .values import Frame, JobInfo, Result


class Job:
    """A job on the server; made by a Client.

    Iterating gives its frames as they come, to its end; a frame that is overtaken by a newer one before it was sent is
    left out. A broken connection is picked up again. Leaving the loop leaves the job running: `cancel` stops it.
    """

    def __init__(self, stub: JobServiceStub, target: str, job_id: str, stream: Any = None) -> None:
        self._stub = stub
        self._target = target
        self._stream = stream
        self._history = History(job_id)

    @classmethod
    def submit(cls, stub: JobServiceStub, target: str, call: Callable[[], Any]) -> Job:
        """Submits a job; `call` opens its stream. Returns when the server has accepted it."""
        try:
            stream = call()
            first = next(stream).event
        except grpc.RpcError as error:
            raise from_rpc(error, target) from error
        job = cls(stub, target, first.job_id, stream)
        job._history.take(first)
        return job

    @property
    def id(self) -> str:
        """Its id, by which `Client.job` finds it again."""
        return self._history.job_id

    @property
    def state(self) -> str:
        """Its state as of the latest event: "queued", "running", "succeeded", "failed" or "cancelled"."""
        return self._history.state

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they come, to the end of the job.

        Raises:
            JobFailedError, JobCancelledError: it ended so.
            UnavailableError: the server could not be reached again.
        """
        return self._frames(None)

    def result(self, timeout: float | None = None) -> Result:
        """Waits for the job to end, at most `timeout` seconds, and returns what it made.

        Raises:
            JobFailedError, JobCancelledError: it ended otherwise.
            DeadlineError: it has not ended in that time; it goes on, and may be waited for again.
        """
        for _ in self._frames(None if timeout is None else time.monotonic() + timeout):
            pass
        return self._history.result()

    def cancel(self) -> None:
        """Asks the job to stop; it does so at its next report. A job that has ended stays as it is."""
        self._call(self._stub.CancelJob, job_service_pb2.CancelJobRequest(job_id=self.id))

    def info(self) -> JobInfo:
        """The job as it stands on the server."""
        return JobInfo.of(self._call(self._stub.GetJob, job_service_pb2.GetJobRequest(job_id=self.id)).job)

    def _frames(self, deadline: float | None) -> Iterator[Frame]:
        attempts = 0
        while not self._history.ended:
            try:
                if self._stream is None or deadline is not None:
                    self._stream = self._watch(deadline)
                for response in self._stream:
                    attempts = 0
                    frame = self._history.take(response.event)
                    if frame is not None:
                        yield frame
                self._stream = None
            except grpc.RpcError as error:
                self._stream = None
                if deadline is not None and time.monotonic() >= deadline:
                    raise DeadlineError(f"job {self.id} has not ended in the time given; it goes on") from error
                attempts += 1
                if error.code() != grpc.StatusCode.UNAVAILABLE or attempts > REATTACH_ATTEMPTS:
                    raise from_rpc(error, self._target) from error
                time.sleep(backoff(attempts))
        self._history.result()

    def _watch(self, deadline: float | None) -> Any:
        request = job_service_pb2.WatchJobRequest(job_id=self.id, after_sequence=self._history.sequence)
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
        return self._stub.WatchJob(request, timeout=timeout)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=CALL_TIMEOUT)
        except grpc.RpcError as error:
            raise from_rpc(error, self._target) from error
