"""StyleTransferService: submits a job and streams its events."""

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from gramophone.v1 import job_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceServicer

from ..logs import mark
from ..messages.events import Failure
from ..messages.spec import JobSpec
from ..reading.interceptor import release_request
from ..reading.request_images import MakeRequestImages, RequestImages
from ..reading.request_reader import RequestReader
from ..reading.rules import read_field
from ..reading.submissions import PaintRequest, read_submission
from ..rpc.errors import Context, abort, rich_errors
from ..rpc.violations import Checker
from ..scheduling.scheduler import Scheduler
from ..security.caller import client_of
from .presence import ClientPresence
from .render import render_estimate
from .streams import Streams


class StyleTransferServicer(StyleTransferServiceServicer):
    """Implements StyleTransferService: the three calls that paint, and EstimateJob."""

    def __init__(
        self,
        scheduler: Scheduler,
        reader: RequestReader,
        images: MakeRequestImages,
        streams: Streams,
        presence: ClientPresence,
    ) -> None:
        self._scheduler = scheduler
        self._reader = reader
        self._images = images
        self._streams = streams
        self._presence = presence

    async def ReconstructStyle(
        self, request: pb.ReconstructStyleRequest, context: Context
    ) -> AsyncIterator[pb.ReconstructStyleResponse]:
        """Paints a texture from a style."""
        events = self._run(request, context, self._reader.style)
        del request  # Free its pictures: the stream may last for hours.
        async for event in events:
            yield pb.ReconstructStyleResponse(event=event)

    async def ReconstructContent(
        self, request: pb.ReconstructContentRequest, context: Context
    ) -> AsyncIterator[pb.ReconstructContentResponse]:
        """Reconstructs a picture from its feature maps."""
        events = self._run(request, context, self._reader.content)
        del request  # Free its pictures: the stream may last for hours.
        async for event in events:
            yield pb.ReconstructContentResponse(event=event)

    async def TransferStyle(
        self, request: pb.TransferStyleRequest, context: Context
    ) -> AsyncIterator[pb.TransferStyleResponse]:
        """Paints the content of one picture in the style of others."""
        events = self._run(request, context, self._reader.transfer)
        del request  # Free its pictures: the stream may last for hours.
        async for event in events:
            yield pb.TransferStyleResponse(event=event)

    async def EstimateJob(self, request: pb.EstimateJobRequest, context: Context) -> pb.EstimateJobResponse:
        """Returns a job's estimated memory and time, without submitting the job."""
        async with rich_errors(context):
            with self._images(client_of(context), durable=False) as images:
                spec = await self._reader.estimate(request, images)
            answer = await self._scheduler.estimate(spec)
            if isinstance(answer, Failure):
                await abort(context, grpc.StatusCode[answer.code], answer.message)
            return render_estimate(spec, answer)
        raise AssertionError("unreachable")

    async def _run(
        self, request: PaintRequest, context: Context, read: Callable[[PaintRequest, RequestImages], Awaitable[JobSpec]]
    ) -> AsyncIterator[job_pb2.JobEvent]:
        async with rich_errors(context):
            check = Checker()
            on_disconnect = read_field(request.submission, "on_disconnect", check, prefix="submission.")
            submission = await read_submission(request, check)
            check.stop_if_wrong()
            with self._streams.slot():
                job = await self._scheduler.admission.known(submission)
                if job is None:
                    # Check before decoding, so that refusing a request is cheap under load.
                    self._scheduler.admission.check_room(submission.owner)
                    with self._images(client_of(context), durable=True) as images:
                        spec = await read(request, images)
                        await self._scheduler.check_fits(spec)
                        job = await self._scheduler.admission.submit(spec, submission, images.staging)
                mark(job_id=job.id)
                # Free the request: the stream may last for hours.
                del request
                release_request()
                with self._presence.submitted(job, context, ends=on_disconnect == "cancel"):
                    async for event in self._streams.events(job, context):
                        yield event
