"""Submits jobs in JSON: the answer is the job's first event, and the job goes on."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import Message

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb

from ..reading.interceptor import MAX_REQUEST_BYTES
from .calls import Calls
from .codecs import to_json
from .errors import CallError, Code
from .json_requests import parsed
from .requests import Request, Send, body, respond
from .single import first_response

METHODS: dict[str, tuple[str, type[Message]]] = {
    "style": ("/gramophone.v1.StyleTransferService/ReconstructStyle", pb.ReconstructStyleRequest),
    "content": ("/gramophone.v1.StyleTransferService/ReconstructContent", pb.ReconstructContentRequest),
    "transfer": ("/gramophone.v1.StyleTransferService/TransferStyle", pb.TransferStyleRequest),
}
"""The method and the request of each kind of job."""


class Submissions:
    """Submits jobs."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def submit(self, request: Request, send: Send, kind: str) -> None:
        """Answers POST /jobs/{kind}.

        Raises:
            CallError: the request is not accepted.
        """
        content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            message = f"Content-Type: is {content_type[:60]!r}; write application/json"
            raise CallError(Code.INVALID_ARGUMENT, message, status=415)
        if request.header("content-encoding") not in (None, "identity"):
            raise CallError(Code.INVALID_ARGUMENT, "Content-Encoding: is not supported here; leave it out", status=415)
        method, message_type = METHODS[kind]
        response: Any = await first_response(self._calls, method, request.context, _read(request, message_type))
        event = response.event
        headers = [("content-type", "application/json"), ("location", f"/jobs/{event.job_id}/events")]
        await respond(send, 201, to_json(event), headers)


async def _read(request: Request, kind: type[Message]) -> AsyncIterator[bytes]:
    data = bytearray()
    async for piece in body(request.receive):
        data += piece
        if len(data) > MAX_REQUEST_BYTES:
            message = (
                f"the request has more than {MAX_REQUEST_BYTES:,} bytes; send pictures first by PUT /images/SHA256"
            )
            raise CallError(Code.RESOURCE_EXHAUSTED, message, status=413)
    submitted: Any = parsed(bytes(data), kind)
    if not submitted.submission.HasField("on_disconnect"):
        # There is no stream whose end could mean that the client has gone.
        submitted.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    yield submitted.SerializeToString()
