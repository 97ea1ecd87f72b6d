"""A job's events as they come in, to any number of readers: what the synchronous and the asynchronous job share."""

from __future__ import annotations

import copy
import threading
from collections import deque
from dataclasses import replace

from .errors import JobCancelledError, JobFailedError
from .v1 import job_pb2, job_service_pb2
from .values import Frame, JobInfo, Result, state_name

# Frames of the past that are kept, without their previews.
_KEPT = 10_000


class History:
    """What is known of a job, whichever of its readers, in whichever threads, has learned it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.sequence = 0
        self.state = "queued"
        self._frames: deque[tuple[int, Frame]] = deque(maxlen=_KEPT)
        self._preview: tuple[int, Frame] | None = None
        self._ending: Result | JobFailedError | JobCancelledError | None = None
        self._lacking = False
        self._lock = threading.Lock()

    @property
    def ended(self) -> bool:
        """Whether the final event has come."""
        return self._ending is not None

    def late(self) -> str:
        """What to say when the job has not ended in the time given."""
        return f"job {self.job_id} has not ended in the time given; it goes on"

    def skip(self, after: int, info: JobInfo) -> None:
        """Has readers begin with what comes after that sequence; of a job that has ended they get its end in any case.

        Args:
            info: the job as it stands.
        """
        self.sequence = max(0, min(after, info.sequence - (info.ended is not None)))

    def take(self, event: job_pb2.JobEvent) -> Frame | None:
        """Takes an event in; returns the frame that came with it."""
        frame = Frame.of(event.progress, event.sequence) if event.HasField("progress") else None
        with self._lock:
            # Others may have read further.
            if event.sequence > self.sequence:
                self.sequence = event.sequence
                self.state = state_name(event.state)
                if self._ending is None:
                    self._ending = self._ending_of(event)
                if frame is not None:
                    self._keep(event.sequence, frame)
        return frame

    def frames(self, after: int) -> list[tuple[int, Frame]]:
        """The frames known, with a higher sequence than `after`; only the latest preview is still there."""
        with self._lock:
            preview = self._preview
            frames = [kept for kept in self._frames if kept[0] > after]
        return [preview if preview is not None and kept[0] == preview[0] else kept for kept in frames]

    def result(self) -> Result:
        """The result of a job that has ended.

        Raises:
            JobFailedError, JobCancelledError: it ended otherwise.
        """
        assert self._ending is not None
        if isinstance(self._ending, Result):
            return self._ending
        # Each reader has its own, to which its traceback is added.
        raise copy.copy(self._ending)

    @property
    def lacks_file(self) -> bool:
        """Whether the job has a result whose file is too large for an event, and has not been downloaded yet."""
        return self._lacking

    def take_file(self, data: bytes) -> None:
        """Takes in the file of the result."""
        with self._lock:
            assert isinstance(self._ending, Result)
            self._ending, self._lacking = replace(self._ending, data=data), False

    def _keep(self, sequence: int, frame: Frame) -> None:
        if frame.preview_bytes:
            self._preview = sequence, frame
            frame = replace(frame, preview_bytes=b"")
        self._frames.append((sequence, frame))

    def _ending_of(self, event: job_pb2.JobEvent) -> Result | JobFailedError | JobCancelledError | None:
        match event.state:
            case job_pb2.JOB_STATE_SUCCEEDED:
                image = event.result.image
                self._lacking = len(image.data) < image.size
                return Result.of(event.result)
            case job_pb2.JOB_STATE_FAILED:
                return JobFailedError(self.job_id, event.error.message, event.error.code)
            case job_pb2.JOB_STATE_CANCELLED:
                return JobCancelledError(self.job_id)
        return None


class Reading:
    """One reader's way through a job: on from what is known when it begins, or of an ended job all that is known.

    Attributes:
        ended: whether this reader has had the final event, or has no need of it.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.ended = history.ended
        self._after = 0 if self.ended else history.sequence
        self._any = False

    def request(self) -> job_service_pb2.WatchJobRequest:
        """The request for what comes after the events so far."""
        return job_service_pb2.WatchJobRequest(job_id=self._history.job_id, after_sequence=self._after)

    def take(self, event: job_pb2.JobEvent) -> Frame | None:
        """Takes an event in; returns the frame that is new to this reader."""
        frame = self._history.take(event)
        if event.sequence <= self._after:
            return None
        self._after = event.sequence
        self.ended = event.state in (
            job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED,
        )  # fmt: skip
        self._any = self._any or frame is not None
        return frame

    def lost(self) -> None:
        """A stream broke: nothing is left to come if another reader has learned of the job's end."""
        self.ended = self.ended or self._history.ended

    def rest(self) -> list[Frame]:
        """At the end, the frames that are known and that this reader has not had; the last one if it has had none."""
        known = [frame for _, frame in self._history.frames(self._after)]
        if not known and not self._any:
            known = [frame for _, frame in self._history.frames(0)[-1:]]
        return known
