"""Calls methods for HTTP requests: the same handlers behind the same interceptors as for gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, cast

import grpc
from google.protobuf.message import Message

from ..rpc.errors import STATUS_KEY
from ..rpc.handlers import Handler
from ..rpc.methods import CallDetails
from .errors import CallError, Code, error_of_status

log = logging.getLogger(__name__)

Metadata = Sequence[tuple[str, str]]


class CallContext:
    """What a handler and the interceptors know of a call: the part of grpc.aio.ServicerContext that they use.

    Args:
        requests: yields the serialized requests of the call.
        metadata: the headers of the HTTP request, with lower-case names.
        peer: the address of the connection, such as "ipv4:127.0.0.1:40000".
        certificate: the properties of the client's certificate, as gRPC names them.
        timeout: seconds that the client gives the call; None for no limit.

    Attributes:
        trailing: the trailing metadata that the handler has set.
    """

    def __init__(
        self,
        requests: AsyncIterator[bytes],
        metadata: Metadata,
        peer: str,
        certificate: Mapping[str, Sequence[bytes]],
        timeout: float | None = None,
    ) -> None:
        self.requests = requests
        self.trailing: Metadata = ()
        self._metadata = metadata
        self._peer = peer
        self._certificate = certificate
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._code = Code.OK
        self._message = ""

    def invocation_metadata(self) -> Metadata:
        """Returns the metadata of the call."""
        return self._metadata

    def peer(self) -> str:
        """Returns the address of the connection."""
        return self._peer

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Returns the properties of the client's certificate."""
        return self._certificate

    def time_remaining(self) -> float | None:
        """Returns the seconds until the deadline; None if the call has none."""
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def read(self) -> Any:
        """Returns the next serialized request, or grpc.aio.EOF."""
        return await anext(self.requests, grpc.aio.EOF)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Sets the metadata that the response ends with."""
        self.trailing = metadata

    async def abort(self, code: grpc.StatusCode, message: str = "", trailing: Metadata = ()) -> NoReturn:
        """Ends the call with a status: raises grpc.aio.AbortError, which the handler must not catch."""
        self._code, self._message, self.trailing = code, message, trailing
        raise grpc.aio.AbortError(message)

    def code(self) -> grpc.StatusCode:
        """Returns the status of the call."""
        return self._code

    def error(self) -> CallError:
        """Returns the error of a call that was aborted."""
        serialized = next((value for key, value in self.trailing if key == STATUS_KEY), None)
        return error_of_status(self._code, self._message, cast("bytes | None", serialized))


class Calls:
    """Calls methods by name.

    Args:
        find: returns the handler of `/service/method`; None if it does not exist.
        interceptors: as of the gRPC server; the last one makes each handler take serialized requests.
        limit: maximum number of calls at once.
    """

    def __init__(
        self,
        find: Callable[[str], Handler | None],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        limit: int,
    ) -> None:
        self._find = find
        self._interceptors = tuple(interceptors)
        self._limit = limit
        self._open = 0

    async def responses(self, method: str, context: CallContext) -> AsyncGenerator[Message, None]:
        """Calls `/service/method` and yields its responses.

        Must run in a task of its own: interceptors set context variables of the call.

        Raises:
            CallError: the call has failed.
        """
        if self._open >= self._limit:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"{self._limit} calls are open, the maximum of this server")
        self._open += 1
        try:
            handler = await self._intercepted(method, context, 0)
            if handler is None:
                raise CallError(Code.UNIMPLEMENTED, f"the method {method[:200]!r} does not exist")
            async with aclosing(_run(handler, context)) as found:
                async for response in found:
                    yield response
        except grpc.aio.AbortError:
            raise context.error() from None
        except (CallError, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            log.exception("the call of %r has failed", method)
            raise CallError(Code.UNKNOWN, "the server has failed; its log says why") from error
        finally:
            self._open -= 1

    async def _intercepted(self, method: str, context: CallContext, number: int) -> Handler | None:
        """Returns the method's handler, wrapped by the interceptors from `number` on."""
        if number == len(self._interceptors):
            return self._find(method)

        async def proceed(_: object) -> Handler | None:
            return await self._intercepted(method, context, number + 1)

        details = CallDetails(method, context.invocation_metadata())
        interceptor: Any = self._interceptors[number]
        handler: Handler | None = await interceptor.intercept_service(proceed, details)
        return handler


async def _run(handler: Handler, context: CallContext) -> AsyncGenerator[Message, None]:
    """Yields the responses of a handler that takes a stream of serialized requests."""
    behavior: Any = handler.stream_stream if handler.response_streaming else handler.stream_unary
    if not handler.response_streaming:
        yield await behavior(context.requests, context)
        return
    async with aclosing(behavior(context.requests, context)) as responses:
        async for response in responses:
            yield response
