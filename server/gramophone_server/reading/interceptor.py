"""Reads requests after authentication, with bounds on their size and time, and checks them before parsing."""

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
from ..security.auth import OPEN_METHODS
from ..security.caller import client_of
from .budgets import ByteBudget, Reservation
from .wire import WireError, check_wire

MAX_REQUEST_BYTES = 4 << 20
"""Maximum number of bytes of a request: gRPC's own default limit."""
# Maximum number of bytes of requests without pictures, and of calls that need no authentication.
_MAX_PLAIN_BYTES, _MAX_OPEN_BYTES = 1 << 20, 4 << 10
# Bytes of a budget, and seconds to read one request; the open ones are for calls without authentication. gRPC limits
# one message only to MAX_REQUEST_BYTES, so each request that is being read counts with this size.
_BUDGET, _OPEN_BUDGET, _TIMEOUT, _OPEN_TIMEOUT = 64 << 20, 32 << 20, 60.0, 5.0
# Larger requests take milliseconds to parse: parse one at a time, so that the event loop serves other calls in between.
_LARGE = 2 << 10

_release: ContextVar[Callable[[], None] | None] = ContextVar("release", default=None)


def release_request() -> None:
    """Releases the budget of the current call's request; for handlers that stream long after they need the request."""
    if (release := _release.get()) is not None:
        release()


class ReadingInterceptor(grpc.aio.ServerInterceptor):
    """Bounds the memory and time of reading requests. The innermost interceptor: it reads after the others have run.

    gRPC reads the request of a unary call as soon as the interceptors return its handler. So this interceptor returns
    handlers for streams of requests: gRPC reads those only when the handler asks.

    Args:
        pictures: names of the methods whose requests carry pictures.
    """

    def __init__(self, pictures: Collection[str]) -> None:
        self._pictures = frozenset(pictures)
        self._budgets = {
            "open": ByteBudget(_OPEN_BUDGET, MAX_REQUEST_BYTES, _OPEN_TIMEOUT),
            "plain": ByteBudget(_BUDGET, MAX_REQUEST_BYTES, _TIMEOUT),
            "pictures": ByteBudget(_BUDGET, MAX_REQUEST_BYTES, _TIMEOUT),
            "bidirectional": ByteBudget(_OPEN_BUDGET, MAX_REQUEST_BYTES, _TIMEOUT),
        }

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the call's handler, wrapped so that it reads its request within bounds."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming and handler.response_streaming:
            return _bidirectional(handler, self._budgets["bidirectional"])
        if handler.request_streaming:
            return _client_streaming(handler)
        budget, max_bytes = self._budget_of(handler_call_details.method)
        wrap = _server_streaming if handler.response_streaming else _unary
        return wrap(handler, budget, max_bytes)

    def _budget_of(self, method: str) -> tuple[ByteBudget, int]:
        if method in OPEN_METHODS:
            return self._budgets["open"], _MAX_OPEN_BYTES
        if method in self._pictures:
            return self._budgets["pictures"], MAX_REQUEST_BYTES
        return self._budgets["plain"], _MAX_PLAIN_BYTES


def _unary(handler: Handler, budget: ByteBudget, max_bytes: int) -> Handler:
    behavior: Any = handler.unary_unary
    request_type = _request_type(handler)

    async def answer(_: object, context: Context) -> Any:
        async with _request(request_type, budget, max_bytes, context) as requests:
            return await behavior(requests.pop(), context)

    return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)


def _server_streaming(handler: Handler, budget: ByteBudget, max_bytes: int) -> Handler:
    behavior: Any = handler.unary_stream
    request_type = _request_type(handler)

    async def stream(_: object, context: Context) -> AsyncIterator[Any]:
        async with _request(request_type, budget, max_bytes, context) as requests:
            answer = behavior(requests.pop(), context)
            if inspect.isawaitable(answer):
                await answer  # The handler writes its responses itself, as the health service does.
                return
            # When a call is canceled, gRPC closes this generator, which must close the inner one.
            async with aclosing(answer) as responses:
                async for response in responses:
                    yield response

    return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)


def _client_streaming(handler: Handler) -> Handler:
    """Wraps a handler of uploads: checks each message before it is parsed. The upload service has its own limits."""
    behavior: Any = handler.stream_unary
    request_type = _request_type(handler)

    async def parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in requests:
            parsed_request = _parse(request_type, data, MAX_REQUEST_BYTES)
            if isinstance(parsed_request, Exception):
                raise parsed_request
            yield parsed_request

    async def answer(requests: AsyncIterator[bytes], context: Context) -> Any:
        return await behavior(parsed(requests), context)

    return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)


def _bidirectional(handler: Handler, budget: ByteBudget) -> Handler:
    """Wraps a handler of bidirectional streams (reflection): a call holds its reservation until it ends."""
    behavior: Any = handler.stream_stream

    async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async with rich_errors(context), budget.reserve(client_of(context)) as reservation:
            try:
                async with budget.reading(reservation), aclosing(behavior(requests, context)) as responses:
                    async for response in responses:
                        yield response
            except TimeoutError:
                await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the stream took too long")

    return grpc.stream_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)


def _request_type(handler: Handler) -> type[Message]:
    """Returns the message class of a handler's requests: its deserializer is a method of that class."""
    deserializer: Any = handler.request_deserializer
    request_type: type[Message] = deserializer.__self__
    return request_type


@asynccontextmanager
async def _request(
    request_type: type[Message], budget: ByteBudget, max_bytes: int, context: Context
) -> AsyncIterator[list[Any]]:
    """Reads the request of a call, which counts in the budget until the block ends or `release_request` is called.

    The request is in a list so that the caller can pop it: nothing here keeps a reference to it.
    """
    async with AsyncExitStack() as stack:
        async with rich_errors(context):
            reservation = await stack.enter_async_context(budget.reserve(client_of(context)))
            request = await _read(request_type, budget, reservation, max_bytes, context)
        _release.set(lambda: budget.shrink(reservation, 0))
        requests = [request]
        del request
        yield requests


async def _read(
    request_type: type[Message], budget: ByteBudget, reservation: Reservation, max_bytes: int, context: Context
) -> Message:
    try:
        async with budget.reading(reservation):
            data = await context.read()
    except TimeoutError:
        await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time")
    if not isinstance(data, bytes):
        raise MalformedRequestError(f"the call carries no {request_type.DESCRIPTOR.name}")
    budget.shrink(reservation, len(data))
    if len(data) > _LARGE:
        async with budget.parsing:
            await asyncio.sleep(0)
            parsed_request = _parse(request_type, data, max_bytes)
    else:
        parsed_request = _parse(request_type, data, max_bytes)
    # The traceback of an error would keep the bytes alive until the next garbage collection.
    del data
    if isinstance(parsed_request, Exception):
        raise parsed_request
    return parsed_request


def _parse(
    request_type: type[Message], data: bytes, max_bytes: int
) -> Message | InvalidRequestError | MalformedRequestError:
    """Returns the parsed message; or an error if it is malformed or exceeds the bounds of the contract."""
    descriptor: Any = request_type.DESCRIPTOR
    if len(data) > max_bytes:
        return MalformedRequestError(f"the {descriptor.name} has {len(data):,} bytes; the limit is {max_bytes:,}")
    try:
        check_wire(data, descriptor)
        return request_type.FromString(data)
    except InvalidRequestError as error:
        return InvalidRequestError(error.violations)
    except WireError as error:
        return MalformedRequestError(f"the request is not a valid {descriptor.name}: it {error}")
    except DecodeError:
        return MalformedRequestError(f"the request is not a valid {descriptor.name}")
