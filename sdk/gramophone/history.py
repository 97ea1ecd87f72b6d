"""A job's events as they come in: what the synchronous and the asynchronous job share."""

from .errors import JobCancelledError, JobFailedError
from .v1 import job_pb2, job_service_pb2
from .values import Frame, Result, state_name


class History:
    """What is known of a job from its events so far."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.sequence = 0
        self.state = "queued"
        self._ending: Result | JobFailedError | JobCancelledError | None = None

    @property
    def ended(self) -> bool:
        """Whether the final event has come."""
        return self._ending is not None

    def request(self) -> job_service_pb2.WatchJobRequest:
        """The request for what comes after the events so far."""
        return job_service_pb2.WatchJobRequest(job_id=self.job_id, after_sequence=self.sequence)

    def late(self) -> str:
        """What to say when the job has not ended in the time given."""
        return f"job {self.job_id} has not ended in the time given; it goes on"

    def take(self, event: job_pb2.JobEvent) -> Frame | None:
        """Takes an event in; returns the frame that came with it."""
        self.sequence = max(self.sequence, event.sequence)
        self.state = state_name(event.state)
        match event.state:
            case job_pb2.JOB_STATE_SUCCEEDED:
                self._ending = Result.of(event.result)
            case job_pb2.JOB_STATE_FAILED:
                self._ending = JobFailedError(self.job_id, event.error.message, event.error.code)
            case job_pb2.JOB_STATE_CANCELLED:
                self._ending = JobCancelledError(self.job_id)
        return Frame.of(event.progress) if event.HasField("progress") else None

    def result(self) -> Result:
        """The result of a job that has ended.

        Raises:
            JobFailedError, JobCancelledError: it ended otherwise.
        """
        assert self._ending is not None
        if isinstance(self._ending, Result):
            return self._ending
        raise self._ending
