"""Jobs: their events, results and cancellation."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import grpc

from ..bars import Bar
from ..brief import NotPicklable
from ..downloads import Download, InputDownload, contents, destination
from ..errors import GramophoneError, JobCancelledError, JobFailedError, NotFoundError
from ..history import History, Reader
from ..notebook.html import table
from ..notebook.snapshot import Snapshot
from ..retry import Attempts, StreamEndedError
from ..v1 import job_service_pb2, options_pb2
from ..values import Frame, JobInfo, Result
from .connection import Connection
from .waiting import SharedStream, closing_as_error, ended_well, in_background, in_thread, sleep, starter, when_ended

if TYPE_CHECKING:
    from ..notebook.view import View


class Job(NotPicklable):
    """A job on the server; created by a Client.

    Iterating yields the job's frames until the job ends. The server skips a frame if a newer one is ready before it was
    sent. The stream reconnects after a broken connection and after a restart of the server, which may repeat some
    iterations. Leaving the loop does not stop the job; `cancel` does.

    Any number of threads, tasks and event loops can iterate the same job. Each loop starts with the frames that this
    object has not received yet, and yields at least the last frame. For a job from `Client.job`, the first loop starts
    with the history: the numbers of all frames (the loss curve) and the latest preview. After the job has ended, each
    loop yields all frames that this object has received, with only the latest preview, and makes no call.

    A job submitted with on_disconnect="cancel" continues as long as this object exists and its client is open.
    """

    _instead = "send job.id, and call client.job(id) there"
    _shown = ("id", "state")

    def __init__(self, connection: Connection, job_id: str, stream: Any = None) -> None:
        self._connection = connection
        # Kept open as long as this object exists, and reopened by the next reader: when it ends, the server assumes
        # that the client has disconnected.
        self._submission: Any = None if stream is None else SharedStream(stream)
        self._owner = connection.owner if stream is not None else None
        # The same stream while no reader has it.
        self._unread = self._submission
        self._lock = threading.Lock()
        # Task that reopens the stream; kept so that it is not garbage-collected.
        self.reopening: Any = None
        self._history = History(job_id)
        # Displays in a notebook that end with the next reader, and the tasks that update them.
        self._views: list[View] = []
        self._watching: list[object] = []

    def _repr_html_(self) -> str:
        """Returns a table with the state after the latest received event, for notebooks."""
        return table(Snapshot.of(self._history))

    @classmethod
    def submit(cls, connection: Connection, method: Any, request: Any) -> Job:
        """Submits a job; returns as soon as the server has accepted it."""
        stream, first = connection.submit(method, request)
        job = cls(connection, first.job_id, stream)
        job._history.take(first)
        if request.submission.on_disconnect == options_pb2.ON_DISCONNECT_CANCEL:
            connection.cancel_on_close(job)
            job._keep_open()
        return job

    @property
    def id(self) -> str:
        """The job's id, for `Client.job`."""
        return self._history.job_id

    @property
    def state(self) -> str:
        """The state after the latest received event: "queued", "running", "succeeded", "failed" or "cancelled"."""
        return self._history.state

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames of the job until it ends.

        Raises:
            JobFailedError, JobCancelledError: the job failed or was canceled.
            UnavailableError: the server could not be reached again within the client's `retry_for` seconds.
        """
        return self._frames(None)

    def result(self, timeout: float | None = None) -> Result:
        """Waits until the job ends, at most `timeout` seconds, and returns its result.

        Raises:
            JobFailedError, JobCancelledError: the job failed or was canceled.
            DeadlineError: the job has not ended in that time. It continues, and `result` can be called again.
        """
        for _ in self._frames(None if timeout is None else time.monotonic() + timeout):
            pass
        return self._history.result()

    def progress(self, **options: Any) -> Iterator[Frame]:
        """Yields the frames of the job like a loop over the job itself, and shows a tqdm bar.

        `tqdm(job)` cannot know its total: the number of frames depends on how fast they are read. The total of this bar
        is the number of iterations.

        Args:
            options: arguments of tqdm, such as desc="texture" or leave=False.
        """
        bar = Bar(options)
        try:
            for frame in self._frames(None):
                bar.update(frame)
                yield frame
        finally:
            bar.close()

    def show(self) -> None:
        """Displays the job in a notebook: its picture, loss curve and progress, and a button to cancel it.

        Returns at once; the display follows the job in the background. When the job has ended, the display becomes a
        picture that a saved notebook keeps. `result` returns after this. The kernel handles clicks on the button
        between cells. Without anywidget, an output is updated and there is no button.

        Raises:
            RuntimeError: this program is not a notebook.
        """
        from ..notebook.view import open_view

        start = starter()
        view = open_view(self._history, lambda: start(self._cancel_for, view))
        self._views.append(view)
        self._watching.append(in_background(self._watch, view))

    def _watch(self, view: View) -> None:
        """Updates a display until the job ends."""
        error = ""
        try:
            for _ in self._frames(None, watching=True):
                in_thread(view.update)
        except (JobFailedError, JobCancelledError):
            pass
        except Exception as failure:
            error = str(failure)
        in_thread(view.end, error)

    def _cancel_for(self, view: View) -> None:
        """Cancels the job for a display, which shows why if this fails."""
        try:
            self.cancel()
        except Exception as error:
            in_thread(view.note, str(error))

    def cancel(self) -> None:
        """Cancels the job: it stops after its current iteration. A job that has ended does not change."""
        self._connection.call(self._connection.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=self.id))

    def info(self) -> JobInfo:
        """Returns the current state of the job on the server."""
        request = job_service_pb2.GetJobRequest(job_id=self.id)
        return JobInfo.of((self._connection.call(self._connection.jobs.GetJob, request)).job)

    def delete(self) -> None:
        """Deletes the job and its result on the server.

        Raises:
            ServerError: the job has not ended.
        """
        attempts = self._connection.attempts_in_time()
        request = job_service_pb2.DeleteJobRequest(job_id=self.id)
        try:
            self._connection.call(self._connection.jobs.DeleteJob, request, attempts)
        except NotFoundError:
            # An earlier attempt deleted the job, but its response was lost.
            if not attempts.retried:
                raise

    @overload
    def download(self, path_or_file: None = None, *, offset: int = 0) -> bytes: ...
    @overload
    def download(self, path_or_file: str | os.PathLike[str] | BinaryIO, *, offset: int = 0) -> None: ...
    def download(
        self, path_or_file: str | os.PathLike[str] | BinaryIO | None = None, *, offset: int = 0
    ) -> bytes | None:
        """Downloads the result's file in chunks; resumes after a broken connection.

        Args:
            path_or_file: destination: a path, where the file appears only when it is complete and verified, or a file
                open for writing bytes. Default: the bytes are returned.
            offset: position in bytes at which to start, for a caller that already has the bytes before it. If it is not
                0, only the size of the file is verified.

        Raises:
            ServerError: the job has no result, or the received file differs from the server's in size or SHA-256.
        """
        with destination(path_or_file) as file:
            self._receive(Download(self.id, offset), file, self._connection.attempts())
            return contents(path_or_file, file)

    @overload
    def download_input(self, sha256: str, path_or_file: None = None) -> bytes: ...
    @overload
    def download_input(self, sha256: str, path_or_file: str | os.PathLike[str] | BinaryIO) -> None: ...
    def download_input(
        self, sha256: str, path_or_file: str | os.PathLike[str] | BinaryIO | None = None
    ) -> bytes | None:
        """Downloads a picture or mask that the job was given, as a PNG of the size at which the job uses it.

        Args:
            sha256: SHA-256 of the file that the job was given, as in `Result.recipe`.
            path_or_file: destination: a path, where the file appears only when it is complete, or a file open for
                writing bytes. Default: the bytes are returned.

        Raises:
            NotFoundError: the server does not know the job, or the job has no such picture.
        """
        attempts = self._connection.attempts()
        download = InputDownload(self.id, sha256)
        while not download.complete:
            download.restart()
            try:
                for response in self._connection.jobs.DownloadInput(download.request(), timeout=attempts.left):
                    download.take(response)
                    attempts.progress()
                if not download.complete:
                    raise StreamEndedError
            except grpc.RpcError as error:
                sleep(attempts.pause(error))
        with destination(path_or_file) as file:
            in_thread(file.write, download.data)
            return contents(path_or_file, file)

    def _receive(self, download: Download, file: BinaryIO, attempts: Attempts) -> None:
        """Writes the result's file to `file`, chunk by chunk."""
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
        """Downloads the result's file if it was too large for the last event."""
        if self._history.lacks_file:
            file = io.BytesIO()
            self._receive(Download(self.id, 0), file, attempts)
            self._history.take_file(file.getvalue())

    def _frames(self, deadline: float | None, watching: bool = False) -> Iterator[Frame]:
        """Yields frames until the job ends; then ends its displays, unless it is a display that reads."""
        reader, attempts = Reader(self._history), self._connection.attempts(deadline, self._history.late_message())
        stream = None
        try:
            with closing_as_error(self._connection):
                while not reader.ended:
                    try:
                        stream = self._open(reader, attempts)
                        for response in stream:
                            attempts.progress()
                            frame = reader.take(response.event)
                            if frame is not None:
                                yield frame
                        self._forget_stream(stream)
                        stream = None
                        if not reader.ended:
                            raise StreamEndedError
                    except grpc.RpcError as error:
                        self._forget_stream(stream)
                        stream = None
                        reader.stream_lost()
                        if not reader.ended:
                            sleep(attempts.pause(error))
        finally:
            self._release_stream(stream)
        for frame in reader.remaining():
            yield frame
        self._complete(attempts)
        if not watching:
            self._end_views()
        self._history.result()

    def _end_views(self) -> None:
        """Ends the displays in the caller's cell; each display also ends itself, possibly later."""
        views, self._views = self._views, []
        for view in views:
            in_thread(view.end)

    def _open(self, reader: Reader, attempts: Attempts) -> Any:
        """Opens a stream for one reader: the submission's stream if no other reader has it, else a new one.

        The submission's stream must not end with a reader's deadline, and only its owner can read it.
        """
        can_share = attempts.left is None and self._owner == self._connection.owner
        with self._lock:
            if can_share and self._unread is not None:
                stream, self._unread = self._unread, None
                return stream
            stream = self._connection.jobs.WatchJob(reader.request(), timeout=attempts.left)
            if can_share and self._submission is None:
                stream = self._submission = SharedStream(stream)
            return stream

    def _release_stream(self, stream: Any) -> None:
        """Releases a reader's stream: keeps the submission's stream for the next reader, cancels any other."""
        if stream is None:
            return
        with self._lock:
            if stream is self._submission:
                self._unread = stream
                return
        stream.cancel()

    def _forget_stream(self, stream: Any) -> None:
        """Forgets the submission's stream if it is the one that has ended."""
        with self._lock:
            if stream is not None and stream is self._submission:
                self._submission = self._unread = None

    def _keep_open(self, attempts: Attempts | None = None) -> None:
        """Makes the submission's stream reopen if it breaks while no reader has it."""
        job: weakref.ref[Job] = weakref.ref(self)
        stream = self._submission
        if stream is not None:
            when_ended(stream, lambda: _start_reopening(job, stream, attempts))

    def _reopen(self, lost: Any, attempts: Attempts | None) -> None:
        """Reopens the submission's stream after it broke, unless a reader has done so."""
        chosen = attempts or self._connection.attempts()
        with contextlib.suppress(GramophoneError, RuntimeError):
            if ended_well(lost):
                return
            sleep(chosen.pause(StreamEndedError()))
            with self._lock:
                if self._unread is not lost:
                    return
                stream = self._connection.jobs.WatchJob(Reader(self._history).request())
                self._unread = self._submission = SharedStream(stream)
            self._keep_open(chosen)


def _start_reopening(ref: weakref.ref[Job], lost: Any, attempts: Attempts | None) -> None:
    """Starts to reopen a job's stream that has ended; called by gRPC, so it must not block."""
    job = ref()
    if job is not None and job._unread is lost and not job._connection.closed:
        job.reopening = in_background(job._reopen, lost, attempts)
