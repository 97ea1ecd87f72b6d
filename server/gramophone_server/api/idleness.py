"""Detects that the server has been idle, without calls and jobs, for some time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from ..rpc.handlers import Behavior, Handler, wrap_handler


class IdleMonitor(grpc.aio.ServerInterceptor):
    """Counts the calls in progress.

    Args:
        busy: returns whether the server has work without a call, such as a job that no client watches.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._calls = 0
        self._since = time.monotonic()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the call's handler, wrapped so that the call is counted."""
        handler = await continuation(handler_call_details)
        return None if handler is None else wrap_handler(handler, self._answering, self._streaming)

    async def wait(self, seconds: float) -> None:
        """Waits until the server has been idle for `seconds`."""
        while True:
            if self._calls or self._busy():
                self._since = time.monotonic()
            left = self._since + seconds - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 1.0))

    def _answering(self, behavior: Behavior) -> Behavior:
        async def answer(request: Any, context: Any) -> Any:
            with self._call():
                return await behavior(request, context)

        return answer

    def _streaming(self, behavior: Behavior) -> Behavior:
        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._call():
                # A canceled call closes this generator, which must then close the wrapped generator.
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        yield response

        return stream

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._since = time.monotonic()
