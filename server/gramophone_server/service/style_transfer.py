"""StyleTransferService: submits a job and streams its events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import grpc

from gramophone.v1 import job_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceServicer

from ..jobs.events import Failure
from ..jobs.scheduler import Scheduler
from ..jobs.spec import JobSpec
from .caller import current_caller
from .errors import Context, abort, rich_errors
from .render import render_estimate, render_event
from .requests import RequestReader
from .violations import Checker

_Request = TypeVar("_Request", pb.ReconstructStyleRequest, pb.ReconstructContentRequest, pb.TransferStyleRequest)


class StyleTransferServicer(StyleTransferServiceServicer):
    """Answers the three calls that paint, and says what they would take."""

    def __init__(self, scheduler: Scheduler, reader: RequestReader) -> None:
        self._scheduler = scheduler
        self._reader = reader

    async def ReconstructStyle(
        self, request: pb.ReconstructStyleRequest, context: Context
    ) -> AsyncIterator[pb.ReconstructStyleResponse]:
        """Makes a texture."""
        async for event in self._run(request, context, self._reader.style):
            yield pb.ReconstructStyleResponse(event=event)

    async def ReconstructContent(
        self, request: pb.ReconstructContentRequest, context: Context
    ) -> AsyncIterator[pb.ReconstructContentResponse]:
        """Makes a picture from feature maps."""
        async for event in self._run(request, context, self._reader.content):
            yield pb.ReconstructContentResponse(event=event)

    async def TransferStyle(
        self, request: pb.TransferStyleRequest, context: Context
    ) -> AsyncIterator[pb.TransferStyleResponse]:
        """Makes a picture of one picture's content in another's style."""
        async for event in self._run(request, context, self._reader.transfer):
            yield pb.TransferStyleResponse(event=event)

    async def EstimateJob(self, request: pb.EstimateJobRequest, context: Context) -> pb.EstimateJobResponse:
        """What a job would take."""
        async with rich_errors(context):
            spec = await asyncio.to_thread(self._reader.estimate, request)
            answer = await self._scheduler.estimate(spec)
            if isinstance(answer, Failure):
                await abort(context, grpc.StatusCode[answer.code], answer.message)
            return render_estimate(spec, answer)
        raise AssertionError("unreachable")

    async def _run(
        self, request: _Request, context: Context, read: Callable[[_Request], JobSpec]
    ) -> AsyncIterator[job_pb2.JobEvent]:
        async with rich_errors(context):
            check = Checker()
            on_disconnect = check.choice(request, "on_disconnect", options_pb2.OnDisconnect, "cancel")
            check.stop_if_wrong()
            # Checking decodes pictures, which would hold up every other call.
            spec = await asyncio.to_thread(read, request)
            await self._scheduler.check_fits(spec)
            job = self._scheduler.submit(spec, owner=current_caller().name)
        try:
            async for event in job.watch():
                yield render_event(job, event)
        finally:
            # Reached by a cancelled call and by a lost connection alike.
            if on_disconnect == "cancel" and not job.state.final:
                self._scheduler.cancel_soon(job)
