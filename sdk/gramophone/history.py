"""Events of a job for several readers: the part that the synchronous and the asynchronous Job share."""

from __future__ import annotations

import copy
import threading
from collections import deque
from dataclasses import replace

from .errors import JobCancelledError, JobFailedError
from .v1 import job_pb2, job_service_pb2
from .values import Frame, JobInfo, Result, state_name

# Maximum number of frames that a history keeps, without their previews.
_MAX_FRAMES = 10_000


class History:
    """The events of a job that its readers, in any thread, have received."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.sequence = 0
        self.state = "queued"
        self._frames: deque[tuple[int, Frame]] = deque(maxlen=_MAX_FRAMES)
        self._preview: tuple[int, Frame] | None = None
        self._ending: Result | JobFailedError | JobCancelledError | None = None
        self._lacks_file = False
        self._lock = threading.Lock()

    @property
    def ended(self) -> bool:
        """Whether the final event has been received."""
        return self._ending is not None

    @property
    def ending(self) -> Result | JobFailedError | JobCancelledError | None:
        """The result, or the error by which the job ended; None while it has not ended."""
        return self._ending

    @property
    def preview(self) -> bytes:
        """File of the latest preview; empty if there is none."""
        preview = self._preview
        return preview[1].preview_bytes if preview else b""

    def late_message(self) -> str:
        """Returns the message for a job that has not ended within a reader's timeout."""
        return f"job {self.job_id} has not ended in the given time; it continues"

    def skip(self, after: int, info: JobInfo) -> None:
        """Makes readers start after the sequence `after`; for a job that has ended, they always get the final event.

        Args:
            info: the current state of the job.
        """
        self.sequence = max(0, min(after, info.sequence - (info.ended is not None)))

    def take(self, event: job_pb2.JobEvent) -> Frame | None:
        """Adds an event; returns its frame, or None if it has none."""
        frame = Frame.of(event.progress, event.sequence) if event.HasField("progress") else None
        with self._lock:
            # Another reader may already have received later events.
            if event.sequence > self.sequence:
                self.sequence = event.sequence
                self.state = state_name(event.state)
                if self._ending is None:
                    self._ending = self._ending_of(event)
                if frame is not None:
                    self._keep(event.sequence, frame)
        return frame

    def frames(self, after: int) -> list[tuple[int, Frame]]:
        """Returns the (sequence, frame) pairs after the sequence `after`, with only the latest preview."""
        with self._lock:
            preview = self._preview
            frames = [kept for kept in self._frames if kept[0] > after]
        return [preview if preview is not None and kept[0] == preview[0] else kept for kept in frames]

    def result(self) -> Result:
        """Returns the result of a job that has ended.

        Raises:
            JobFailedError, JobCancelledError: the job failed or was canceled.
        """
        assert self._ending is not None
        if isinstance(self._ending, Result):
            return self._ending
        # Raise a copy for each reader, because raising adds a traceback to the exception.
        raise copy.copy(self._ending)

    @property
    def lacks_file(self) -> bool:
        """Whether the job's result has a file that was too large for an event and is not downloaded yet."""
        return self._lacks_file

    def take_file(self, data: bytes) -> None:
        """Adds the downloaded file to the result."""
        with self._lock:
            assert isinstance(self._ending, Result)
            self._ending, self._lacks_file = replace(self._ending, data=data), False

    def _keep(self, sequence: int, frame: Frame) -> None:
        if frame.preview_bytes:
            self._preview = sequence, frame
            frame = replace(frame, preview_bytes=b"")
        self._frames.append((sequence, frame))

    def _ending_of(self, event: job_pb2.JobEvent) -> Result | JobFailedError | JobCancelledError | None:
        match event.state:
            case job_pb2.JOB_STATE_SUCCEEDED:
                image = event.result.image
                self._lacks_file = len(image.data) < image.size
                return Result.of(event.result)
            case job_pb2.JOB_STATE_FAILED:
                return JobFailedError(self.job_id, event.error.message, event.error.code)
            case job_pb2.JOB_STATE_CANCELLED:
                return JobCancelledError(self.job_id)
        return None


class Reader:
    """The position of one reader in a job's events.

    It starts after the events that the history has. If the job has already ended, it starts at the first frame, and no
    stream is needed.

    Attributes:
        ended: whether this reader needs no more events from the server.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.ended = history.ended
        self._after = 0 if self.ended else history.sequence
        self._any = False

    def request(self) -> job_service_pb2.WatchJobRequest:
        """Returns the request for the events after those received so far."""
        return job_service_pb2.WatchJobRequest(job_id=self._history.job_id, after_sequence=self._after)

    def take(self, event: job_pb2.JobEvent) -> Frame | None:
        """Adds an event; returns its frame if this reader has not had it, else None."""
        frame = self._history.take(event)
        if event.sequence <= self._after:
            return None
        self._after = event.sequence
        self.ended = event.state in (
            job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED,
        )  # fmt: skip
        self._any = self._any or frame is not None
        return frame

    def stream_lost(self) -> None:
        """Notes that the stream broke; this reader then has ended if another reader has received the final event."""
        self.ended = self.ended or self._history.ended

    def remaining(self) -> list[Frame]:
        """Returns the frames that this reader has not had, for the end of the job; the last one if it has had none."""
        known = [frame for _, frame in self._history.frames(self._after)]
        if not known and not self._any:
            known = [frame for _, frame in self._history.frames(0)[-1:]]
        return known
