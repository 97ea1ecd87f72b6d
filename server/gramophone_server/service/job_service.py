"""JobService: finds, watches and cancels jobs."""

from collections.abc import AsyncIterator

from gramophone.v1 import job_pb2
from gramophone.v1 import job_service_pb2 as pb
from gramophone.v1.job_service_pb2_grpc import JobServiceServicer

from ..jobs.events import State
from ..jobs.job import Job
from ..jobs.scheduler import Scheduler
from .caller import current_caller
from .errors import Context, rich_errors
from .render import render_event, render_job
from .violations import Checker, NotFoundError


class JobServicer(JobServiceServicer):
    """Answers the calls about jobs."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """One job as it stands."""
        async with rich_errors(context):
            return pb.GetJobResponse(job=render_job(self._find(request.job_id), with_result=True))
        raise AssertionError("unreachable")

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Jobs, the newest first."""
        async with rich_errors(context):
            check = Checker()
            size = check.integer(request, "page_size", 100, 1, 1000)
            states = _states(request, check)
            check.stop_if_wrong()
            # One more than asked for tells whether there is a next page.
            caller = current_caller()
            owner = None if caller.admin else caller.name
            jobs = self._scheduler.store.list(limit=size + 1, before=request.page_token, states=states, owner=owner)
            page = [render_job(job, with_result=False) for job in jobs[:size]]
            return pb.ListJobsResponse(jobs=page, next_page_token=page[-1].id if len(jobs) > size else "")
        raise AssertionError("unreachable")

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        """A job's events until it ends."""
        async with rich_errors(context):
            check = Checker()
            after = check.integer(request, "after_sequence", 0, 0, 2**63 - 1)
            check.stop_if_wrong()
            job = self._find(request.job_id)
        async for event in job.watch(after):
            yield pb.WatchJobResponse(event=render_event(job, event))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """Asks a job to stop."""
        async with rich_errors(context):
            job = self._find(request.job_id)
            await self._scheduler.cancel(job)
            return pb.CancelJobResponse(job=render_job(job, with_result=False))
        raise AssertionError("unreachable")

    def _find(self, job_id: str) -> Job:
        check = Checker()
        if not job_id:
            check.add("job_id", "is empty; it is the job_id of the job's events")
        check.stop_if_wrong()
        job = self._scheduler.store.get(job_id)
        # Whether another client has such a job is not for this one to learn.
        if job is None or not current_caller().may_see(job.owner):
            reason = f"is {job_id!r}, which is not known; it may be of an earlier run of the server, or long over"
            raise NotFoundError("job_id", "job", job_id, reason)
        return job


def _states(request: pb.ListJobsRequest, check: Checker) -> list[State]:
    states = []
    for i, value in enumerate(request.states):
        if value == 0 or value not in job_pb2.JobState.values():
            check.add(f"states[{i}]", f"is {value}, which is not a state; use JOB_STATE_QUEUED and so on")
        else:
            states.append(State[job_pb2.JobState.Name(value).removeprefix("JOB_STATE_")])
    return states
