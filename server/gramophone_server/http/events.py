"""Events of jobs as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

from gramophone.v1 import job_pb2
from gramophone.v1 import job_service_pb2 as pb

from .calls import Calls
from .codecs import to_json
from .errors import CallError, invalid
from .requests import Request, Send, respond, start, write
from .single import one

WATCH = "/gramophone.v1.JobService/WatchJob"
MAX_JOBS = 64
"""Maximum number of jobs in one stream."""
# Seconds without an event after which a comment is sent, so that proxies do not close the connection. The first comes
# sooner: it sends the head of the response, for which clients wait.
_QUIET, _FIRST_QUIET = 15.0, 1.0
# Milliseconds that a client waits before it reconnects.
_RETRY = 2000
_HEADERS = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    # nginx must not collect events.
    ("x-accel-buffering", "no"),
]


class Events:
    """Streams the events of one or several jobs."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def job(self, request: Request, send: Send, job_id: str) -> None:
        """Answers GET /jobs/{id}/events.

        Raises:
            CallError: the job is not known, or the parameters are wrong.
        """
        last = request.header("last-event-id") or request.parameter("after") or "0"
        name = "Last-Event-ID" if request.header("last-event-id") else "after"
        if not re.fullmatch(r"\d{1,10}", last, re.ASCII) or int(last) >= 2**31:
            raise invalid(name, f"is {last[:40]!r}; write the id of an event, such as 7")
        await self._stream(request, send, {job_id: int(last)}, is_single=True)

    async def jobs(self, request: Request, send: Send) -> None:
        """Answers GET /events?job=ID&job=ID.

        Raises:
            CallError: as in `job`.
        """
        ids = list(dict.fromkeys(value for name, value in request.query if name == "job"))
        if not 1 <= len(ids) <= MAX_JOBS:
            raise invalid("job", f"is there {len(ids)} times; name 1 to {MAX_JOBS} jobs, as in /events?job=ID&job=ID")
        after = _positions(request.header("last-event-id") or "")
        await self._stream(request, send, {job_id: after.get(job_id, 0) for job_id in ids}, is_single=False)

    async def _stream(self, request: Request, send: Send, after: dict[str, int], *, is_single: bool) -> None:
        with_pictures = _flag(request, "pictures")
        streams = {job_id: _JobStream(self._calls, request, job_id, sequence) for job_id, sequence in after.items()}
        async with aclosing(_merged(streams)) as events:
            first = await anext(events, None)
            if first is None:
                # On this status EventSource does not reconnect.
                await respond(send, 204)
                return
            await start(send, 200, _HEADERS)
            await write(send, f"retry: {_RETRY}\n\n".encode())
            item: _Item | None = first
            while item is not None:
                if isinstance(item, job_pb2.JobEvent):
                    after[item.job_id] = item.sequence
                    event_id = str(item.sequence) if is_single else _text(after)
                    await write(send, _event(event_id, _without_pictures(item) if not with_pictures else item))
                elif isinstance(item, CallError):
                    await write(send, b"event: problem\ndata: " + item.json() + b"\n\n")
                else:
                    await write(send, b": keep-alive\n\n")
                item = await anext(events, None)
        await write(send, b"", more=False)


# An event, an error that ends the stream, or a word for a quiet time.
_Item = job_pb2.JobEvent | CallError | str


class _JobStream:
    """The events of one job with a sequence above `after`."""

    def __init__(self, calls: Calls, request: Request, job_id: str, after: int) -> None:
        self._calls = calls
        self._request = request
        self._message = pb.WatchJobRequest(job_id=job_id, after_sequence=after)

    async def events(self) -> AsyncGenerator[job_pb2.JobEvent, None]:
        context = self._request.context(one(self._message))
        async with aclosing(self._calls.responses(WATCH, context)) as responses:
            async for response in responses:
                yield cast(pb.WatchJobResponse, response).event


async def _merged(streams: Mapping[str, _JobStream]) -> AsyncGenerator[_Item, None]:
    """Yields the events of all jobs at the reader's pace, "keep-alive" when it is quiet, and as the last item an error.

    Raises:
        CallError: a stream has failed before anything was yielded.
    """
    # Each pump makes its next event when the reader takes the previous one: until then, progress is conflated.
    ready: asyncio.Queue[tuple[asyncio.Event, job_pb2.JobEvent | CallError | None]] = asyncio.Queue()
    pumps = [asyncio.create_task(_pump(stream, ready)) for stream in streams.values()]
    left, has_begun = len(pumps), False
    try:
        while left:
            try:
                async with asyncio.timeout(_QUIET if has_begun else _FIRST_QUIET):
                    taken, item = await ready.get()
            except TimeoutError:
                has_begun = True
                yield "keep-alive"
                continue
            if item is None:
                left -= 1
            elif isinstance(item, CallError) and not has_begun:
                raise item
            else:
                has_begun = True
                yield item
                if isinstance(item, CallError):
                    return
            taken.set()
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)


async def _pump(stream: _JobStream, ready: "asyncio.Queue[Any]") -> None:
    taken = asyncio.Event()
    try:
        async with aclosing(stream.events()) as events:
            async for event in events:
                taken.clear()
                ready.put_nowait((taken, event))
                await taken.wait()
    except CallError as error:
        ready.put_nowait((taken, error))
    else:
        ready.put_nowait((taken, None))


def _event(event_id: str, event: job_pb2.JobEvent) -> bytes:
    return b"id: " + event_id.encode() + b"\ndata: " + to_json(event) + b"\n\n"


def _without_pictures(event: job_pb2.JobEvent) -> job_pb2.JobEvent:
    copied = job_pb2.JobEvent()
    copied.CopyFrom(event)
    for detail, field in ((copied.progress, "preview"), (copied.result, "image")):
        if detail.HasField(cast(Any, field)):
            getattr(detail, field).ClearField("data")
    return copied


def _flag(request: Request, name: str) -> bool:
    value = request.parameter(name) or "true"
    if value not in ("true", "false"):
        raise invalid(name, f"is {value[:40]!r}; write true or false")
    return value != "false"


def _positions(last_event_id: str) -> dict[str, int]:
    """Returns the sequence of each job's last event from the id of an event of several jobs; see `_text`."""
    pairs = re.findall(r"([0-9a-f]{1,64})=(\d{1,9})", last_event_id, re.ASCII)
    return {job_id: int(sequence) for job_id, sequence in pairs}


def _text(after: Mapping[str, int]) -> str:
    return ",".join(f"{job_id}={sequence}" for job_id, sequence in after.items())
