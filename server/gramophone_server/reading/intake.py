"""Reads requests within bounds: after authentication, of bounded size and time, and checked before they are parsed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from ..rpc.errors import Context, abort, rich_errors
from ..rpc.handlers import Handler
from ..rpc.violations import InvalidRequestError, MalformedRequestError
from ..security.auth import OPEN
from ..security.caller import client_of
from .lanes import Lane, Place
from .wire import WireError, check_wire

MOST = 4 << 20
"""Bytes of a request, which is gRPC's own bound by default."""
# Of calls that carry no picture, and of those that are open to everybody.
_PLAIN, _OPEN = 1 << 20, 4 << 10
# Bytes of all requests of a lane that are under way, and the seconds that each has to come. gRPC bounds what it reads
# by MOST alone, so each request that is being read counts with that.
_ROOM, _OPEN_ROOM, _PATIENCE, _OPEN_PATIENCE = 64 << 20, 32 << 20, 60.0, 5.0
# Larger requests are parsed one at a time, each a few milliseconds, so that the event loop gets to others in between.
_LARGE = 2 << 10

_held: ContextVar[Callable[[], None] | None] = ContextVar("held", default=None)


def let_go() -> None:
    """Says that the request of the call at hand is held no longer, where its answer goes on for long."""
    if (release := _held.get()) is not None:
        release()


class Intake(grpc.aio.ServerInterceptor):
    """Bounds what reading requests takes. The innermost interceptor: the others let a call pass before it is read.

    gRPC itself would read the request of a call as soon as there is its handler. Here each handler is one of a stream
    of requests, of which nothing is read until it asks.

    Args:
        pictures: names of the methods whose requests carry pictures.
    """

    def __init__(self, pictures: Collection[str]) -> None:
        self._pictures = frozenset(pictures)
        self._lanes = {
            "open": Lane(_OPEN_ROOM, MOST, _OPEN_PATIENCE),
            "plain": Lane(_ROOM, MOST, _PATIENCE),
            "pictures": Lane(_ROOM, MOST, _PATIENCE),
            "conversations": Lane(_OPEN_ROOM, MOST, _PATIENCE),
        }

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler, with its request read within bounds."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming and handler.response_streaming:
            return _conversing(handler, self._lanes["conversations"])
        if handler.request_streaming:
            return _uploading(handler)
        lane, most = self._lane(handler_call_details.method)
        return _answering(handler, lane, most) if not handler.response_streaming else _streaming(handler, lane, most)

    def _lane(self, method: str) -> tuple[Lane, int]:
        if method in OPEN:
            return self._lanes["open"], _OPEN
        if method in self._pictures:
            return self._lanes["pictures"], MOST
        return self._lanes["plain"], _PLAIN


def _answering(handler: Handler, lane: Lane, most: int) -> Handler:
    behavior: Any = handler.unary_unary
    kind = _kind(handler)

    async def answer(_: object, context: Context) -> Any:
        async with _request(kind, lane, most, context) as requests:
            return await behavior(requests.pop(), context)

    return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)


def _streaming(handler: Handler, lane: Lane, most: int) -> Handler:
    behavior: Any = handler.unary_stream
    kind = _kind(handler)

    async def stream(_: object, context: Context) -> AsyncIterator[Any]:
        async with _request(kind, lane, most, context) as requests:
            answer = behavior(requests.pop(), context)
            if inspect.isawaitable(answer):
                await answer  # It writes its responses itself, as that of health checks does.
                return
            # A call that is cancelled closes this generator, which has to close the one behind it.
            async with aclosing(answer) as responses:
                async for response in responses:
                    yield response

    return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)


def _uploading(handler: Handler) -> Handler:
    """Uploads have bounds of their own; here each message is checked before it is parsed."""
    behavior: Any = handler.stream_unary
    kind = _kind(handler)

    async def parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in requests:
            made = _parse(kind, data, MOST)
            if isinstance(made, Exception):
                raise made
            yield made

    async def answer(requests: AsyncIterator[bytes], context: Context) -> Any:
        return await behavior(parsed(requests), context)

    return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)


def _conversing(handler: Handler, lane: Lane) -> Handler:
    """A conversation, as that about the contract itself (reflection), takes a place as long as it lasts."""
    behavior: Any = handler.stream_stream

    async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async with rich_errors(context), lane.place(client_of(context)) as place:
            try:
                async with lane.reading(place), aclosing(behavior(requests, context)) as responses:
                    async for response in responses:
                        yield response
            except TimeoutError:
                await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the conversation took too long")

    return grpc.stream_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)


def _kind(handler: Handler) -> type[Message]:
    """The message that a handler takes: its deserializer is a method of that."""
    deserializer: Any = handler.request_deserializer
    kind: type[Message] = deserializer.__self__
    return kind


@asynccontextmanager
async def _request(kind: type[Message], lane: Lane, most: int, context: Context) -> AsyncIterator[list[Any]]:
    """The request of a call, in a list from which it is to be taken; its bytes count in the lane until it is let go."""
    async with AsyncExitStack() as stack:
        async with rich_errors(context):
            place = await stack.enter_async_context(lane.place(client_of(context)))
            request = await _read(kind, lane, place, most, context)
        _held.set(lambda: lane.shrink(place, 0))
        requests = [request]
        del request
        yield requests


async def _read(kind: type[Message], lane: Lane, place: Place, most: int, context: Context) -> Message:
    try:
        async with lane.reading(place):
            data = await context.read()
    except TimeoutError:
        await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not come to its end in time")
    if not isinstance(data, bytes):
        raise MalformedRequestError(f"the call has no {kind.DESCRIPTOR.name}")
    lane.shrink(place, len(data))
    if len(data) > _LARGE:
        async with lane.parsing:
            await asyncio.sleep(0)
            made = _parse(kind, data, most)
    else:
        made = _parse(kind, data, most)
    # An error that has its bytes in its frames would hold them until the collector comes by.
    del data
    if isinstance(made, Exception):
        raise made
    return made


def _parse(kind: type[Message], data: bytes, most: int) -> Message | InvalidRequestError | MalformedRequestError:
    """The message of its bytes, or why it is none or does not keep the bounds of the contract."""
    descriptor: Any = kind.DESCRIPTOR
    if len(data) > most:
        return MalformedRequestError(f"the {descriptor.name} has {len(data):,} bytes; it may have {most:,}")
    try:
        check_wire(data, descriptor)
        return kind.FromString(data)
    except InvalidRequestError as error:
        return InvalidRequestError(error.violations)
    except WireError as error:
        return MalformedRequestError(f"the request is no {descriptor.name}: it {error}")
    except DecodeError:
        return MalformedRequestError(f"the request is no {descriptor.name}")
