"""Connects a request that connectrpc reads and answers with the call of a method, which decides when it is read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from .calls import CallContext, Calls
from .codecs import RawRequest

Receive = Callable[[], Awaitable[Any]]


class Exchange:
    """One call, in its own task: so the server authenticates the caller, and waits for room, before it reads the body.

    The handler makes its next response only when the previous one has been sent: until then, progress is conflated.

    Args:
        receive: as of ASGI.
        method: `/service/name`.
        kind: the message class of requests.
        context: makes the context of the call from the iterator of its requests.
    """

    def __init__(
        self,
        calls: Calls,
        receive: Receive,
        method: str,
        kind: type[Message],
        context: Callable[[AsyncIterator[bytes]], CallContext],
    ) -> None:
        self._calls = calls
        self._receive = receive
        self._method = method
        self._kind = kind
        self.context = context(self._requests())
        loop = asyncio.get_running_loop()
        self._given: asyncio.Future[AsyncIterator[RawRequest]] = loop.create_future()
        self._wants_request = asyncio.Event()
        self._wants_response = asyncio.Event()
        self._responses: asyncio.Queue[Message] = asyncio.Queue(1)
        self._body_ended = False
        self._call = asyncio.create_task(self._run())

    async def receive(self) -> Any:
        """Returns the next message of ASGI once the handler has asked for a request.

        Raises:
            CallError: the call has ended, for example without credentials, or because the client sends too slowly.
        """
        if self._body_ended:
            return await self._receive()
        await self._race(asyncio.ensure_future(self._wants_request.wait()))
        message = await self._race(asyncio.ensure_future(self._receive())) or {"type": "http.disconnect"}
        self._body_ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def responses(self, requests: AsyncIterator[RawRequest]) -> AsyncIterator[Message]:
        """Gives the handler its requests, and yields its responses.

        Raises:
            CallError: the call has failed.
        """
        if not self._given.done():
            self._given.set_result(requests)
        self._wants_response.set()
        while (response := await self._race(asyncio.ensure_future(self._responses.get()))) is not None:
            yield response
            self._wants_response.set()

    async def close(self) -> None:
        """Ends the call, and waits until the handler has ended."""
        self._call.cancel()
        await asyncio.wait({self._call})
        if not self._call.cancelled():
            # Mark the exception as seen.
            self._call.exception()

    async def _run(self) -> None:
        async with contextlib.aclosing(self._calls.responses(self._method, self.context)) as responses:
            async for response in responses:
                await self._responses.put(response)
                self._wants_response.clear()
                await self._wants_response.wait()

    async def _requests(self) -> AsyncIterator[bytes]:
        self._wants_request.set()
        async for request in await self._given:
            yield request.serialized(self._kind)
            # Free the request: the call may last for hours.
            del request

    async def _race(self, waiting: "asyncio.Future[Any]") -> Any:
        """Returns the result of `waiting`; if the call ends first, None, or raises its error."""
        try:
            await asyncio.wait({waiting, self._call}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            waiting.cancel()
        if self._call.cancelled():
            raise asyncio.CancelledError
        if (error := self._call.exception()) is not None:
            raise error
        return None
