"""Uploads of picture files by PUT, which can be resumed with Content-Range (RFC 9110, section 14.5)."""

import json
import re
from collections.abc import AsyncIterator
from typing import cast

from gramophone.v1 import job_service_pb2 as pb

from .calls import Calls
from .errors import CallError, Code, invalid
from .requests import Headers, Request, Send, body, respond
from .single import first_response, one

UPLOAD = "/gramophone.v1.JobService/UploadImage"
STATE = "/gramophone.v1.JobService/GetUpload"
# Bytes in one message of UploadImage, at most.
_PIECE = 1 << 20


class Uploads:
    """Passes files on to UploadImage."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def state(self, request: Request, send: Send, sha256: str) -> None:
        """Answers HEAD /images/{sha256}.

        Raises:
            CallError: the server has nothing of the file, or its name is not a SHA-256.
        """
        await respond(send, 204, b"", _headers(await self._known(request, sha256)))

    async def put(self, request: Request, send: Send, sha256: str) -> None:
        """Answers PUT /images/{sha256}.

        Raises:
            CallError: the file was not stored.
        """
        if request.header("content-encoding") not in (None, "identity"):
            raise CallError(Code.INVALID_ARGUMENT, "Content-Encoding: is not supported here; leave it out", status=415)
        offset = _offset(request)
        pieces = _Pieces(request, sha256, offset)
        try:
            response = cast(
                pb.UploadImageResponse, await first_response(self._calls, UPLOAD, request.context, pieces.messages())
            )
        except CallError as error:
            if error.code is Code.ABORTED:
                # The error is about the header that the field `offset` was made from.
                has = await self._offset_of(request, sha256)
                reason = f"begins at {offset}, but the server has {has} bytes of the file; continue there"
                headers = [("upload-offset", str(has))]
                raise invalid("Content-Range", reason, code=Code.ABORTED, headers=headers) from None
            raise
        answer = json.dumps({"sha256": response.sha256, "size": response.size}).encode()
        headers = [
            ("content-type", "application/json"),
            ("upload-offset", str(response.size)),
            ("upload-complete", "?1"),
        ]
        await respond(send, 201 if pieces.were_read else 200, answer, headers)

    async def _known(self, request: Request, sha256: str) -> pb.GetUploadResponse:
        message = one(pb.GetUploadRequest(sha256=sha256))
        return cast(pb.GetUploadResponse, await first_response(self._calls, STATE, request.context, message))

    async def _offset_of(self, request: Request, sha256: str) -> int:
        try:
            return (await self._known(request, sha256)).offset
        except CallError:
            return 0


class _Pieces:
    """The messages of UploadImage; the first has no data, so that the body is read only if the server lacks the file.

    Attributes:
        were_read: whether the body was read.
    """

    def __init__(self, request: Request, sha256: str, offset: int) -> None:
        self._request = request
        self._first = pb.UploadImageRequest(sha256=sha256, offset=offset or None)
        self.were_read = False

    async def messages(self) -> AsyncIterator[bytes]:
        yield self._first.SerializeToString()
        self.were_read = True
        async for data in body(self._request.receive):
            for start in range(0, len(data), _PIECE):
                yield pb.UploadImageRequest(data=data[start : start + _PIECE]).SerializeToString()


def _headers(known: pb.GetUploadResponse) -> Headers:
    return [
        ("upload-offset", str(known.offset)),
        ("upload-complete", "?1" if known.complete else "?0"),
        ("cache-control", "no-store"),
    ]


def _offset(request: Request) -> int:
    """Returns the position of the body in the file.

    Raises:
        CallError: Content-Range is malformed, or does not reach to the end of the file.
    """
    header = request.header("content-range")
    if header is None:
        return 0
    match = re.fullmatch(r"bytes (\d{1,10})-(\d{1,10})/(\d{1,10}|\*)", header.strip(), re.ASCII)
    if match is None or int(match[1]) > int(match[2]) or int(match[1]) >= 2**32:
        raise invalid("Content-Range", f"is {header[:60]!r}; write bytes FIRST-LAST/SIZE")
    if match[3] != "*" and int(match[2]) + 1 != int(match[3]):
        raise invalid("Content-Range", f"is {header[:60]!r}, which does not reach to the end; send all remaining bytes")
    return int(match[1])
