"""A job that a client has submitted, or come back to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, overload

import grpc

from .brief import Rooted
from .connection import Connection
from .downloads import Download, contents, destination
from .errors import NotFoundError
from .history import History
from .retry import StreamEndedError
from .v1 import job_service_pb2
from .values import Frame, JobInfo, Result


class Job(Rooted):
    """A job on the server; made by a Client.

    Iterating gives its frames as they come, to its end; a frame that is overtaken by a newer one before it was sent is
    left out. Of a job that `Client.job` came back to, the first iteration begins with the frames of the past: all their
    figures, which is the loss curve, and the latest preview. A broken connection is picked up again, and so is a server
    that was restarted, whose job may have gone back some iterations. Leaving the loop leaves the job running: `cancel`
    stops it.
    """

    _instead = "send job.id, and call client.job(id) there"
    _shown = ("id", "state")

    def __init__(self, connection: Connection, job_id: str, stream: Any = None) -> None:
        self._connection = connection
        self._stream = stream
        # Kept open whatever else is watched: the server may take its end for the client's leaving.
        self._submission = stream
        self._history = History(job_id)

    @classmethod
    def submit(cls, connection: Connection, method: Any, request: Any) -> Job:
        """Submits a job. Returns when the server has accepted it."""
        stream, first = connection.submit(method, request)
        job = cls(connection, first.job_id, stream)
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
            UnavailableError: the server could not be reached again in the client's `retry_for` seconds.
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
        self._connection.call(self._connection.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=self.id))

    def info(self) -> JobInfo:
        """The job as it stands on the server."""
        request = job_service_pb2.GetJobRequest(job_id=self.id)
        return JobInfo.of(self._connection.call(self._connection.jobs.GetJob, request).job)

    def delete(self) -> None:
        """Has the server forget the job and its result; ServerError for one that has not ended."""
        attempts = self._connection.attempts_in_time()
        request = job_service_pb2.DeleteJobRequest(job_id=self.id)
        try:
            self._connection.call(self._connection.jobs.DeleteJob, request, attempts)
        except NotFoundError:
            # The try before this one did it, and its answer was lost.
            if not attempts.retried:
                raise

    @overload
    def download(self, path_or_file: None = None, *, offset: int = 0) -> bytes: ...
    @overload
    def download(self, path_or_file: str | os.PathLike[str] | BinaryIO, *, offset: int = 0) -> None: ...
    def download(
        self, path_or_file: str | os.PathLike[str] | BinaryIO | None = None, *, offset: int = 0
    ) -> bytes | None:
        """Fetches the file that the job made, in pieces; a broken connection is picked up where it broke.

        Args:
            path_or_file: where to write it: a path, at which it appears when it is whole and checked, or a file open
                for writing bytes. Left out, the bytes are returned.
            offset: where in the file to begin, in bytes, for a caller that has what is before it; what comes is the
                rest, of which only the size can be checked.

        Raises:
            ServerError: the job has no result, or what came is not what the server has (size, SHA-256).
        """
        download, attempts = Download(self.id, offset), self._connection.attempts()
        with destination(path_or_file) as file:
            while not download.complete:
                try:
                    for response in self._connection.jobs.DownloadResult(download.request()):
                        file.write(download.take(response))
                        attempts.progress()
                    if not download.complete:
                        raise StreamEndedError
                except grpc.RpcError as error:
                    time.sleep(attempts.pause(error))
            download.check()
            return contents(path_or_file, file)

    def _frames(self, deadline: float | None) -> Iterator[Frame]:
        attempts = self._connection.attempts(deadline, self._history.late())
        while not self._history.ended:
            try:
                if self._stream is None or deadline is not None:
                    self._stream = self._connection.jobs.WatchJob(self._history.request(), timeout=attempts.left)
                for response in self._stream:
                    attempts.progress()
                    frame = self._history.take(response.event)
                    if frame is not None:
                        yield frame
                self._stream = None
                if not self._history.ended:
                    raise StreamEndedError
            except grpc.RpcError as error:
                self._stream = None
                time.sleep(attempts.pause(error))
        self._history.result()
