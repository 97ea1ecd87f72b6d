"""JobService: lists, watches, cancels and deletes jobs; receives uploads and sends results."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

import grpc

from gramophone.v1 import job_pb2
from gramophone.v1 import job_service_pb2 as pb
from gramophone.v1.job_service_pb2_grpc import JobServiceServicer

from ..logs import mark
from ..messages.events import Result, State
from ..messages.options import JobKind
from ..reading.rules import read_field
from ..rpc.errors import Context, abort, rich_errors
from ..rpc.violations import Checker, NotFoundError
from ..scheduling.scheduler import Scheduler
from ..security.caller import client_of, current_caller
from ..settings import Limits
from ..storage.ids import is_job_id
from ..storage.job import Job
from ..storage.query import Query
from .inputs import Inputs
from .pieces import PIECE, fill_page
from .presence import ClientPresence
from .previews import Previews
from .render import render_image, render_job
from .streams import Streams
from .uploads import Uploads


class JobServicer(JobServiceServicer):
    """Implements JobService."""

    def __init__(
        self,
        scheduler: Scheduler,
        streams: Streams,
        presence: ClientPresence,
        previews: Previews,
        inputs: Inputs,
        limits: Limits,
    ) -> None:
        self._scheduler = scheduler
        self._store = scheduler.store
        self._streams = streams
        self._presence = presence
        self._previews = previews
        self._inputs = inputs
        self._uploads = Uploads(scheduler.store, limits.max_upload_bytes, limits.max_uploads)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """Returns a job in its current state."""
        async with rich_errors(context):
            return pb.GetJobResponse(job=render_job(await self._find(request.job_id), with_result=True))
        raise AssertionError("unreachable")

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Returns one page of the jobs that match the request."""
        async with rich_errors(context):
            check = Checker()
            query = _query(request, check)
            check.stop_if_wrong()
            # One job more than requested shows whether there is a next page.
            jobs = await self._store.find(replace(query, limit=query.limit + 1))
            page = fill_page(render_job(job, with_result=False) for job in jobs[: query.limit])
            return pb.ListJobsResponse(jobs=page, next_page_token=page[-1].id if len(jobs) > len(page) else "")
        raise AssertionError("unreachable")

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        """Streams a job's events until the job ends."""
        async with rich_errors(context):
            check = Checker()
            after = read_field(request, "after_sequence", check)
            check.stop_if_wrong()
            with self._streams.slot():
                job = await self._find(request.job_id)
                with self._presence.watched(job, context):
                    async for event in self._streams.events(job, context, after):
                        yield pb.WatchJobResponse(event=event)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """Cancels a job; a running job stops after its current iteration."""
        async with rich_errors(context):
            job = await self._find(request.job_id)
            await self._scheduler.cancel(job)
            return pb.CancelJobResponse(job=render_job(job, with_result=False))
        raise AssertionError("unreachable")

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Context) -> pb.DeleteJobResponse:
        """Deletes a job that has ended."""
        async with rich_errors(context):
            job = await self._find(request.job_id)
            if not job.state.final:
                message = f"Job {job.id} is {job.state.value}; cancel it first, or wait until it ends."
                await abort(context, grpc.StatusCode.FAILED_PRECONDITION, message)
            await self._store.delete(job)
            return pb.DeleteJobResponse()
        raise AssertionError("unreachable")

    async def DownloadResult(
        self, request: pb.DownloadResultRequest, context: Context
    ) -> AsyncIterator[pb.DownloadResultResponse]:
        """Streams the file of a job's result in pieces of at most `PIECE` bytes."""
        async with rich_errors(context):
            check = Checker()
            offset = read_field(request, "offset", check)
            check.stop_if_wrong()
            with self._streams.slot():
                job = await self._find(request.job_id)
                result = job.outcome
                if not isinstance(result, Result):
                    message = f"Job {job.id} is {job.state.value} and has no result."
                    await abort(context, grpc.StatusCode.FAILED_PRECONDITION, message)
                data = result.image.data
                if offset > len(data):
                    check.add("offset", f"is {offset}, but the file has {len(data)} bytes")
                    check.stop_if_wrong()
                whole = render_job(job, with_result=True).result
                whole.image.ClearField("data")
                first = pb.DownloadResultResponse(result=whole, size=whole.image.size, sha256=whole.image.sha256)
                first.data = data[offset : offset + PIECE]
                yield first
                for start in range(offset + PIECE, len(data), PIECE):
                    yield pb.DownloadResultResponse(data=data[start : start + PIECE])

    async def DownloadInput(
        self, request: pb.DownloadInputRequest, context: Context
    ) -> AsyncIterator[pb.DownloadInputResponse]:
        """Streams a picture that a job was given, in pieces of at most `PIECE` bytes."""
        async with rich_errors(context):
            with self._streams.slot():
                job = await self._find(request.job_id)
                async with aclosing(self._inputs.pieces(job, request.sha256, client_of(context))) as pieces:
                    async for size, data in pieces:
                        yield pb.DownloadInputResponse(size=size, data=data)

    async def UploadImage(
        self, request_iterator: AsyncIterator[pb.UploadImageRequest], context: Context
    ) -> pb.UploadImageResponse:
        """Stores a picture file, which later requests name by its SHA-256."""
        async with rich_errors(context):
            try:
                return await self._uploads.take(request_iterator, current_caller().name, client_of(context))
            except TimeoutError:
                message = "the next piece of the file did not arrive in time; send the file again in pieces of 1 MiB"
                await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, message)
        raise AssertionError("unreachable")

    async def GetUpload(self, request: pb.GetUploadRequest, context: Context) -> pb.GetUploadResponse:
        """Returns how much of a picture file the server has."""
        async with rich_errors(context):
            known = await self._uploads.known(request.sha256, current_caller().name)
            if known is None:
                reason = f"is {request.sha256}, of which the server has nothing; send it with UploadImage"
                raise NotFoundError("sha256", "upload", request.sha256, reason)
            return pb.GetUploadResponse(offset=known[0], complete=known[1])
        raise AssertionError("unreachable")

    async def GetPreview(self, request: pb.GetPreviewRequest, context: Context) -> pb.GetPreviewResponse:
        """Returns a small picture of a job."""
        async with rich_errors(context):
            check = Checker()
            size = read_field(request, "size", check)
            check.stop_if_wrong()
            job = await self._find(request.job_id)
            await self._store.fetch_preview(job)
            preview = await self._previews.of(job, size, client_of(context))
            if preview is None:
                reason = f"is {job.id!r}, which is {job.state.value} and has no picture yet"
                raise NotFoundError("job_id", "preview", job.id, reason)
            return pb.GetPreviewResponse(image=render_image(preview))
        raise AssertionError("unreachable")

    async def _find(self, job_id: str) -> Job:
        check = Checker()
        if not job_id:
            check.add("job_id", "is empty; copy it from the job_id of the job's events")
        check.stop_if_wrong()
        job = await self._store.get(job_id) if is_job_id(job_id) else None
        # Jobs of other callers are reported as NOT_FOUND.
        if job is None or not current_caller().may_see(job.owner):
            reason = f"is {job_id!r}, which is not known; the server deletes old jobs"
            raise NotFoundError("job_id", "job", job_id, reason)
        mark(job_id=job.id)
        return job


def _query(request: pb.ListJobsRequest, check: Checker) -> Query:
    caller = current_caller()
    owner = check.text(request, "owner") or None
    if not caller.admin:
        if owner not in (None, caller.name):
            check.add("owner", f"is {owner!r}, but only an administrator may list the jobs of others")
        owner = caller.name
    return Query(
        limit=read_field(request, "page_size", check),
        states=tuple(State[name] for name in _names(request.states, "states", job_pb2.JobState, check)),
        kinds=tuple(_kind(name) for name in _names(request.kinds, "kinds", job_pb2.JobKind, check)),
        model=check.text(request, "model"),
        owner=owner,
        created_after=_moment(request, "created_after", check),
        created_before=_moment(request, "created_before", check),
        oldest_first=read_field(request, "order", check) == "oldest_first",
        after=_page_token(request, check),
    )


def _page_token(request: pb.ListJobsRequest, check: Checker) -> str:
    """Returns the id of the last job of the previous page; empty for the first page."""
    token = request.page_token
    if token and not is_job_id(token):
        check.add("page_token", f"is {token[:80]!r}; copy next_page_token of the previous page, or leave it out")
        return ""
    return token


def _moment(
    request: pb.ListJobsRequest, field: Literal["created_after", "created_before"], check: Checker
) -> float | None:
    """Returns a time in seconds since the epoch; None if the field is unset or wrong."""
    if not request.HasField(field):
        return None
    try:
        return float(getattr(request, field).ToMicroseconds() / 1e6)
    except ValueError:
        check.add(field, "must be a time in the years 1 to 9999")
        return None


def _names(values: Iterable[int], field: str, enum: Any, check: Checker) -> list[str]:
    """Returns the names of enum values without the enum's prefix."""
    names = []
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    for i, value in enumerate(values):
        if value == 0 or value not in enum.values():
            known = ", ".join(enum.keys()[1:])
            check.add(f"{field}[{i}]", f"is {value}, which is not a value of the enum; use one of {known}")
        else:
            names.append(enum.Name(value).removeprefix(prefix))
    return names


def _kind(name: str) -> JobKind:
    kinds: dict[str, JobKind] = {"STYLE": "style", "CONTENT": "content", "TRANSFER": "transfer"}
    return kinds[name]
