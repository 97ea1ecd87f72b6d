"""The endpoints of Connect and gRPC-Web, made from the descriptors of the services."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from protobuf.wkt import Any as ConnectAny
from protobuf.wkt import Struct

from ..reading.interceptor import MAX_REQUEST_BYTES
from .calls import Calls
from .codecs import RawCodec, RawRequest
from .errors import CallError, code_name, readable
from .exchange import Exchange

_STREAM_TYPES = {
    (False, False): StreamType.UNARY,
    (True, False): StreamType.CLIENT_STREAM,
    (False, True): StreamType.SERVER_STREAM,
}
# The exchange of the request that the current task answers.
_exchange: ContextVar[Exchange] = ContextVar("exchange")


class Endpoints:
    """Answers Connect and gRPC-Web requests at `/service/method`.

    Methods that stream in both directions have no endpoint: HTTP/1.1 cannot carry them.
    """

    def __init__(self, services: Iterable[ServiceDescriptor], calls: Calls) -> None:
        self._calls = calls
        methods = [method for service in services for method in service.methods]
        self._methods = {
            f"/{method.containing_service.full_name}/{method.name}": method
            for method in methods
            if not (method.client_streaming and method.server_streaming)
        }
        self._app = _App({path: _endpoint(method) for path, method in self._methods.items()})

    def has(self, path: str) -> bool:
        """Returns whether a path is `/service/method` of a method."""
        return path in self._methods

    def takes(self, path: str, content_type: str) -> bool:
        """Returns whether a method takes requests of a content type."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind in ("application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json"):
            return True
        method = self._methods[path]
        streams = method.client_streaming or method.server_streaming
        return kind in [f"application/{'connect+' if streams else ''}{codec}" for codec in ("json", "proto")]

    async def answer(self, scope: Any, receive: Any, send: Any, make_context: Any) -> None:
        """Answers a request to one of the paths, as an ASGI application.

        Args:
            make_context: makes the context of the call from the iterator of its requests.
        """
        path = scope["path"]
        kind = message_factory.GetMessageClass(self._methods[path].input_type)
        exchange = Exchange(self._calls, receive, path, kind, make_context)
        _exchange.set(exchange)

        async def read() -> Any:
            try:
                return await exchange.receive()
            except CallError as error:
                raise connect_error(error) from None

        try:
            await self._app(scope, read, send)
        finally:
            await exchange.close()


class _App(ConnectASGIApplication[None]):
    def __init__(self, endpoints: Mapping[str, Any]) -> None:
        super().__init__(
            service=None,
            endpoints=lambda _: endpoints,
            read_max_bytes=MAX_REQUEST_BYTES,
            codecs=[RawCodec("proto"), RawCodec("json")],
        )

    @property
    def path(self) -> str:
        return ""


class _Detail(ErrorDetail):
    """A detail whose JSON shows its fields: connectrpc does not know the types of google.rpc."""

    def __init__(self, packed: Any) -> None:
        super().__init__(ConnectAny(type_url=packed.type_url, value=packed.value))
        self._fields = readable(packed)

    def value(self, *_: Any) -> Any:
        return None if self._fields is None else Struct.from_json(json.dumps(self._fields))


def connect_error(error: CallError) -> ConnectError:
    """Returns an error for connectrpc."""
    return ConnectError(Code(code_name(error.code)), str(error), [_Detail(detail) for detail in error.details])


def _endpoint(method: MethodDescriptor) -> Any:
    info: MethodInfo[Any, Any] = MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=RawRequest,
        output=object,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=_STREAM_TYPES[method.client_streaming, method.server_streaming],
    )
    if method.server_streaming:
        return Endpoint.server_stream(info, _stream)
    return Endpoint.client_stream(info, _take) if method.client_streaming else Endpoint.unary(info, _answer)


async def _answer(request: RawRequest, context: Any) -> Any:
    return await _take(_only(request), context)


async def _take(requests: AsyncIterator[RawRequest], context: Any) -> Any:
    exchange = _exchange.get()
    last = None
    try:
        async for response in exchange.responses(requests):
            last = response
    except CallError as error:
        raise connect_error(error) from None
    finally:
        # connectrpc closes the iterator of the requests, which the call may still read.
        await exchange.close()
        for key, value in exchange.context.trailing:
            if isinstance(value, str):
                context.response_trailers[key] = value
    return last


async def _stream(request: RawRequest, context: Any) -> AsyncIterator[Any]:
    try:
        async for response in _exchange.get().responses(_only(request)):
            yield response
    except CallError as error:
        raise connect_error(error) from None


async def _only(request: RawRequest) -> AsyncIterator[RawRequest]:
    yield request
