"""StyleTransferService: submits a job and streams its events."""

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from gramophone.v1 import job_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceServicer

from ..logs import mark
from ..messages.events import Failure
from ..messages.spec import JobSpec
from ..reading.intake import release_request
from ..reading.request_images import MakeRequestImages, RequestImages
from ..reading.request_reader import RequestReader
from ..reading.rules import read_field
from ..reading.submissions import PaintRequest, read_submission
from ..rpc.errors import Context, abort, rich_errors
from ..rpc.violations import Checker
from ..scheduling.scheduler import Scheduler
from ..security.caller import client_of
from .attendance import Attendance
from .render import render_estimate
from .streams import Streams


class StyleTransferServicer(StyleTransferServiceServicer):
    """Answers the three calls that paint, and says what they would take."""

    def __init__(
        self,
        scheduler: Scheduler,
        reader: RequestReader,
        images: MakeRequestImages,
        streams: Streams,
        attendance: Attendance,
    ) -> None:
        self._scheduler = scheduler
        self._reader = reader
        self._images = images
        self._streams = streams
        self._attendance = attendance

    async def ReconstructStyle(
        self, request: pb.ReconstructStyleRequest, context: Context
    ) -> AsyncIterator[pb.ReconstructStyleResponse]:
        """Makes a texture."""
        events = self._run(request, context, self._reader.style)
        del request  # which the stream does not need
        async for event in events:
            yield pb.ReconstructStyleResponse(event=event)

    async def ReconstructContent(
        self, request: pb.ReconstructContentRequest, context: Context
    ) -> AsyncIterator[pb.ReconstructContentResponse]:
        """Makes a picture from feature maps."""
        events = self._run(request, context, self._reader.content)
        del request  # which the stream does not need
        async for event in events:
            yield pb.ReconstructContentResponse(event=event)

    async def TransferStyle(
        self, request: pb.TransferStyleRequest, context: Context
    ) -> AsyncIterator[pb.TransferStyleResponse]:
        """Makes a picture of one picture's content in another's style."""
        events = self._run(request, context, self._reader.transfer)
        del request  # which the stream does not need
        async for event in events:
            yield pb.TransferStyleResponse(event=event)

    async def EstimateJob(self, request: pb.EstimateJobRequest, context: Context) -> pb.EstimateJobResponse:
        """What a job would take."""
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
            with self._streams.one():
                job = await self._scheduler.admission.known(submission)
                if job is None:
                    # Before anything is decoded: refusing has to be cheap when many ask.
                    self._scheduler.admission.check_room(submission.owner)
                    with self._images(client_of(context), durable=True) as images:
                        spec = await read(request, images)
                        await self._scheduler.check_fits(spec)
                        job = await self._scheduler.admission.submit(spec, submission, images.staging)
                mark(job_id=job.id)
                # The stream may go on for hours, and needs nothing of it.
                del request
                release_request()
                with self._attendance.submitted(job, context, ends=on_disconnect == "cancel"):
                    async for event in self._streams.events(job, context):
                        yield event
