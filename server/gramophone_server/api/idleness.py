"""Notices when a server has had nothing to do for some time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from ..rpc.handlers import Behavior, Handler, wrapped


class Idleness(grpc.aio.ServerInterceptor):
    """Sees calls come and go.

    Args:
        busy: whether there is work without a call, such as a job that nobody watches.
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
        """The call's handler, counted."""
        handler = await continuation(handler_call_details)
        return None if handler is None else wrapped(handler, self._answering, self._streaming)

    async def lasts(self, seconds: float) -> None:
        """Waits until there has been nothing to do for so long."""
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
                # A call that is cancelled closes this generator, which has to close the one behind it.
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
