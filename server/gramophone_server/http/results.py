"""Results, previews and inputs of jobs as files, with ranges (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from gramophone.v1 import job_service_pb2 as pb
from gramophone.v1 import options_pb2

from .calls import Calls
from .errors import CallError, Code, invalid
from .page import matches
from .requests import Headers, Request, Send, respond, start, write
from .single import one

DOWNLOAD = "/gramophone.v1.JobService/DownloadResult"
PREVIEW = "/gramophone.v1.JobService/GetPreview"
INPUT = "/gramophone.v1.JobService/DownloadInput"
_TYPES = {
    options_pb2.IMAGE_FORMAT_PNG: ("image/png", "png"),
    options_pb2.IMAGE_FORMAT_JPEG: ("image/jpeg", "jpg"),
    options_pb2.IMAGE_FORMAT_TIFF: ("image/tiff", "tif"),
    options_pb2.IMAGE_FORMAT_WEBP: ("image/webp", "webp"),
}


class Results:
    """Sends the files of jobs."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def result(self, request: Request, send: Send, job_id: str) -> None:
        """Answers GET and HEAD of /jobs/{id}/result.

        Raises:
            CallError: the job is not known or has no result, or the range is not in the file.
        """
        wanted = request.header("range")
        if_range = request.header("if-range")
        # The first message has the size and the entity tag, which decide on the rest.
        async with aclosing(self._download(request, job_id, 0)) as pieces:
            first = await anext(pieces)
            etag = f'"{first.sha256}"'
            headers = _result_headers(first, job_id, etag, is_download=request.parameter("download") is not None)
            if matches(request.header("if-none-match"), etag):
                await respond(send, 304, b"", headers)
                return
            span = None if wanted is None or if_range not in (None, etag) else _span(wanted, first.size)
            if span is None:
                await self._send(request, send, 200, headers, first, pieces, first.size)
                return
        begin, end = span
        headers = [*headers, ("content-range", f"bytes {begin}-{end - 1}/{first.size}")]
        async with aclosing(self._download(request, job_id, begin)) as pieces:
            await self._send(request, send, 206, headers, await anext(pieces), pieces, end - begin)

    async def preview(self, request: Request, send: Send, job_id: str) -> None:
        """Answers GET and HEAD of /jobs/{id}/preview.

        Raises:
            CallError: the job is not known, or has no picture yet.
        """
        size = request.parameter("size")
        if size is not None and not re.fullmatch(r"\d{1,5}", size, re.ASCII):
            raise invalid("size", f"is {size[:40]!r}; write a number of pixels, such as 160")
        message = pb.GetPreviewRequest(job_id=job_id, size=None if size is None else int(size))
        async with aclosing(self._calls.responses(PREVIEW, request.context(one(message)))) as responses:
            image = cast(pb.GetPreviewResponse, await anext(responses)).image
        etag = f'"{image.sha256}"'
        headers = [("content-type", _TYPES[image.format][0]), ("etag", etag), ("cache-control", "private, no-cache")]
        if matches(request.header("if-none-match"), etag):
            await respond(send, 304, b"", headers)
        else:
            await respond(send, 200, image.data, headers)

    async def input(self, request: Request, send: Send, job_id: str, sha256: str) -> None:
        """Answers GET of /jobs/{id}/inputs/{sha256}.

        Raises:
            CallError: the job is not known, or has no such picture.
        """
        message = pb.DownloadInputRequest(job_id=job_id, sha256=sha256)
        async with aclosing(self._calls.responses(INPUT, request.context(one(message)))) as responses:
            first = cast(pb.DownloadInputResponse, await anext(responses))
            headers = [("content-type", "image/png"), ("cache-control", "private, no-cache")]
            await start(send, 200, [*headers, ("content-length", str(first.size))])
            await write(send, first.data)
            async for response in responses:
                await write(send, cast(pb.DownloadInputResponse, response).data)
        await write(send, b"", more=False)

    async def _download(
        self, request: Request, job_id: str, offset: int
    ) -> AsyncGenerator[pb.DownloadResultResponse, None]:
        message = pb.DownloadResultRequest(job_id=job_id, offset=offset)
        async with aclosing(self._calls.responses(DOWNLOAD, request.context(one(message)))) as responses:
            async for response in responses:
                yield cast(pb.DownloadResultResponse, response)

    async def _send(
        self,
        request: Request,
        send: Send,
        status: int,
        headers: Headers,
        first: pb.DownloadResultResponse,
        pieces: AsyncIterator[pb.DownloadResultResponse],
        size: int,
    ) -> None:
        """Sends the next `size` bytes of a file: those of the first piece, then the further ones."""
        await start(send, status, [*headers, ("content-length", str(size))])
        if request.method != "HEAD":
            piece: pb.DownloadResultResponse | None = first
            while piece is not None and size > 0:
                await write(send, piece.data[:size])
                size -= len(piece.data)
                piece = await anext(pieces, None) if size > 0 else None
        await write(send, b"", more=False)


def _result_headers(first: pb.DownloadResultResponse, job_id: str, etag: str, *, is_download: bool) -> Headers:
    kind, suffix = _TYPES[first.result.image.format]
    disposition = "attachment" if is_download else "inline"
    return [
        ("content-type", kind),
        ("content-disposition", f'{disposition}; filename="gramophone-{job_id}.{suffix}"'),
        ("etag", etag),
        ("accept-ranges", "bytes"),
        # A job's result never changes, but the job may be deleted.
        ("cache-control", "private, no-cache"),
    ]


def _span(header: str, size: int) -> tuple[int, int] | None:
    """Returns (first byte, end) of a Range header; None if it is to be ignored: malformed, or of several ranges.

    Raises:
        CallError: the range is outside the file.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip(), re.ASCII)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        begin, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < begin:
            return None
    else:
        begin, end = max(0, size - int(match[2])), size
    if begin >= end:
        raise CallError(
            Code.OUT_OF_RANGE, f"Range: is {header[:60]!r}, but the file has {size} bytes", status=416,
            headers=[("content-range", f"bytes */{size}")],
        )  # fmt: skip
    return begin, end
