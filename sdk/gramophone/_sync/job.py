"""A job that a client has submitted, or come back to."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, BinaryIO, overload

import grpc

from ..brief import Rooted
from ..downloads import Download, contents, destination
from ..errors import GramophoneError, NotFoundError
from ..history import History, Reading
from ..retry import Attempts, StreamEndedError
from ..v1 import job_service_pb2, options_pb2
from ..values import Frame, JobInfo, Result
from .connection import Connection
from .waiting import Submission, cut_off_as_error, ended_well, in_background, in_thread, sleep, when_ended


class Job(Rooted):
    """A job on the server; made by a Client.

    Iterating gives its frames as they come, to its end; a frame that is overtaken by a newer one before it was sent is
    left out. A broken connection is picked up again, and so is a server that was restarted, whose job may have gone
    back some iterations. Leaving the loop leaves the job running: `cancel` stops it.

    Any number of threads, tasks and event loops may read one job. Each iteration begins where the job is then, with
    the frames that this object has not had yet, and gives the last frame at least. Of a job that `Client.job` came
    back to, the first begins with the frames of the past: all their figures, which is the loss curve, and the
    latest preview. Of a job that has ended, each gives the frames that this object has had, without their previews
    but the latest, and asks no server.

    A job submitted with on_disconnect="cancel" goes on for as long as this object is there, and its client open.
    """

    _instead = "send job.id, and call client.job(id) there"
    _shown = ("id", "state")

    def __init__(self, connection: Connection, job_id: str, stream: Any = None) -> None:
        self._connection = connection
        # Kept open for as long as this object is there, and opened again by whoever reads next: the server takes its
        # end for the client's leaving.
        self._submission: Any = None if stream is None else Submission(stream)
        self._home = connection.home if stream is not None else None
        # The same while nobody reads it.
        self._unread = self._submission
        self._lock = threading.Lock()
        # What opens it again, lest it be collected.
        self.coming_back: Any = None
        self._history = History(job_id)

    @classmethod
    def submit(cls, connection: Connection, method: Any, request: Any) -> Job:
        """Submits a job. Returns when the server has accepted it."""
        stream, first = connection.submit(method, request)
        job = cls(connection, first.job_id, stream)
        job._history.take(first)
        if request.submission.on_disconnect == options_pb2.ON_DISCONNECT_CANCEL:
            connection.ends_with_client(job)
            job._stay()
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
        return JobInfo.of((self._connection.call(self._connection.jobs.GetJob, request)).job)

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
        with destination(path_or_file) as file:
            self._receive(Download(self.id, offset), file, self._connection.attempts())
            return contents(path_or_file, file)

    def _receive(self, download: Download, file: BinaryIO, attempts: Attempts) -> None:
        """Writes the file of the result as it comes."""
        while not download.complete:
            try:
                for response in self._connection.jobs.DownloadResult(download.request(), timeout=attempts.left):
                    in_thread(file.write, download.take(response))
                    attempts.progress()
                if not download.complete:
                    raise StreamEndedError
            except grpc.RpcError as error:
                sleep(attempts.pause(error))
        download.check()

    def _complete(self, attempts: Attempts) -> None:
        """Fetches the file of the result if it was too large for the last event."""
        if self._history.lacks_file:
            file = io.BytesIO()
            self._receive(Download(self.id, 0), file, attempts)
            self._history.take_file(file.getvalue())

    def _frames(self, deadline: float | None) -> Iterator[Frame]:
        reading, attempts = Reading(self._history), self._connection.attempts(deadline, self._history.late())
        stream = None
        try:
            with cut_off_as_error(self._connection):
                while not reading.ended:
                    try:
                        stream = self._open(reading, attempts)
                        for response in stream:
                            attempts.progress()
                            frame = reading.take(response.event)
                            if frame is not None:
                                yield frame
                        self._lose(stream)
                        stream = None
                        if not reading.ended:
                            raise StreamEndedError
                    except grpc.RpcError as error:
                        self._lose(stream)
                        stream = None
                        reading.lost()
                        if not reading.ended:
                            sleep(attempts.pause(error))
        finally:
            self._leave(stream)
        for frame in reading.rest():
            yield frame
        self._complete(attempts)
        self._history.result()

    def _open(self, reading: Reading, attempts: Attempts) -> Any:
        """A stream for one reader: the submission's for the first, which has all, and one of its own for any other."""
        lasting = attempts.left is None and self._home == self._connection.home
        with self._lock:
            if lasting and self._unread is not None:
                stream, self._unread = self._unread, None
                return stream
            stream = self._connection.jobs.WatchJob(reading.request(), timeout=attempts.left)
            if lasting and self._submission is None:
                stream = self._submission = Submission(stream)
            return stream

    def _leave(self, stream: Any) -> None:
        """A reader leaves its stream, if it has not ended: the submission's is for the next one."""
        if stream is None:
            return
        with self._lock:
            if stream is self._submission:
                self._unread = stream
                return
        stream.cancel()

    def _lose(self, stream: Any) -> None:
        """A stream has ended."""
        with self._lock:
            if stream is not None and stream is self._submission:
                self._submission = self._unread = None

    def _stay(self, attempts: Attempts | None = None) -> None:
        """Has the stream of the submission opened again if it breaks while nobody reads it."""
        job: weakref.ref[Job] = weakref.ref(self)
        stream = self._submission
        if stream is not None:
            when_ended(stream, lambda: _come_back_soon(job, stream, attempts))

    def _come_back(self, lost: Any, attempts: Attempts | None) -> None:
        chosen = attempts or self._connection.attempts()
        with contextlib.suppress(GramophoneError, RuntimeError):
            if ended_well(lost):
                return
            sleep(chosen.pause(StreamEndedError()))
            with self._lock:
                if self._unread is not lost:
                    return
                stream = self._connection.jobs.WatchJob(Reading(self._history).request())
                self._unread = self._submission = Submission(stream)
            self._stay(chosen)


def _come_back_soon(ref: weakref.ref[Job], lost: Any, attempts: Attempts | None) -> None:
    """A stream has ended; where this is called nothing may wait."""
    job = ref()
    if job is not None and job._unread is lost and not job._connection.closed:
        job.coming_back = in_background(job._come_back, lost, attempts)
