"""Measures calls (number, duration, status) and makes a span of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import grpc

from ..rpc.errors import Context
from ..rpc.handlers import Behavior, Handler, wrap_handler
from ..rpc.violations import BusyError, ConflictError, InvalidRequestError, LimitReachedError, MalformedRequestError
from ..scheduling.admission import QueueFullError, RequestIdReusedError, StoppingError
from ..scheduling.scheduler import DoesNotFitError
from ..security.auth import OPEN_METHODS
from ..storage.errors import StorageAwayError, StorageError, StorageFullError
from ..storage.quotas import QuotaExceededError
from .tracing import Tracing

log = logging.getLogger(__name__)

# The label `reason` of gramophone_refusals_total.
_REASONS: dict[type[BaseException], str] = {
    QueueFullError: "queue_full",
    QuotaExceededError: "quota",
    LimitReachedError: "too_many_streams",
    BusyError: "busy",
    DoesNotFitError: "does_not_fit",
    StorageError: "storage",
    StorageFullError: "storage",
    StorageAwayError: "storage",
    StoppingError: "stopping",
    InvalidRequestError: "invalid",
    ConflictError: "invalid",
    MalformedRequestError: "invalid",
    RequestIdReusedError: "invalid",
}


class CallMeter(Protocol):
    """Counts calls."""

    def call_begun(self, method: str, *, streaming: bool) -> None:
        """Counts the start of a call of `service/method`."""
        ...

    def call_ended(self, method: str, code: str, seconds: float, refusal: str | None, *, streaming: bool) -> None:
        """Counts the end of a call.

        Args:
            code: name of its gRPC status.
            seconds: its duration.
            refusal: why the server refused the call; None if it did not.
        """
        ...


class CallWatcher(grpc.aio.ServerInterceptor):
    """Measures all calls except health checks. Must be the first interceptor, to see calls that others refuse."""

    def __init__(self, tracing: Tracing, meter: CallMeter | None) -> None:
        self._tracing = tracing
        self._meter = meter

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the call's handler, wrapped to measure the call; None if the method does not exist."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method in OPEN_METHODS:
            return handler
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata

        def answering(behavior: Behavior) -> Behavior:
            async def answer(request: Any, context: Context) -> Any:
                with self._watched(method, metadata, context, streaming=False):
                    return await behavior(request, context)

            return answer

        def streaming(behavior: Behavior) -> Behavior:
            async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
                with self._watched(method, metadata, context, streaming=True):
                    # A canceled call closes this generator, which must then close the wrapped generator.
                    async with aclosing(behavior(request, context)) as responses:
                        async for response in responses:
                            yield response

            return stream

        return wrap_handler(handler, answering, streaming)

    @contextmanager
    def _watched(self, method: str, metadata: Any, context: Context, *, streaming: bool) -> Iterator[None]:
        name, begun = method.removeprefix("/"), time.perf_counter()
        code, refusal = "UNKNOWN", None
        if self._meter is not None:
            self._meter.call_begun(name, streaming=streaming)
        with self._tracing.call(method, metadata) as outcome:
            try:
                yield
                code = "OK"
            except (asyncio.CancelledError, GeneratorExit):
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError as error:
                code, refusal = _code(context), _refusal(error)
                if code == "UNAUTHENTICATED":
                    refusal = "unauthenticated"
                raise
            finally:
                outcome["code"] = code
                seconds = time.perf_counter() - begun
                if self._meter is not None:
                    self._meter.call_ended(name, code, seconds, refusal, streaming=streaming)
                log.debug("call %s: %s after %.3f s", name, code, seconds)


def _code(context: Context) -> str:
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")


def _refusal(error: BaseException) -> str | None:
    """Returns why the server refused the call, from the exception that `rich_errors` turned into a status."""
    cause: BaseException | None = error
    while cause is not None:
        if (reason := _REASONS.get(type(cause))) is not None:
            return reason
        cause = cause.__context__
    return None
