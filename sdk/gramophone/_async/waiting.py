"""Waiting, threads and streams of the asynchronous client; `_sync/waiting.py` defines the same names for the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from ..base_connection import BaseConnection
from ..errors import UnavailableError, closed_meanwhile
from ..retry import StreamEndedError
from ..stubs import LoopStubs as Stubs

__all__ = [
    "Mailbox", "MaybeAwaitable", "SharedStream", "Stubs", "closing_as_error", "ended_well", "in_background",
    "in_thread", "once", "sleep", "starter", "stream_owner", "when_ended",
]  # fmt: skip

_T = TypeVar("_T")
MaybeAwaitable = Awaitable
"""Type of the result of a call: an Awaitable in the asynchronous client, the value itself in the synchronous client."""
sleep = asyncio.sleep
in_thread = asyncio.to_thread


def stream_owner() -> object:
    """The running event loop: the only one that can read streams opened now."""
    return asyncio.get_running_loop()


class SharedStream:
    """The stream of a submitted job, which several tasks can read one after the other.

    gRPC cancels a stream when the task that reads it is canceled; here each read runs in a task of its own.
    """

    def __init__(self, stream: Any) -> None:
        self.call = stream
        self._responses = aiter(stream)
        self._read: asyncio.Task[Any] | None = None

    def __aiter__(self) -> SharedStream:
        return self

    async def __anext__(self) -> Any:
        if self._read is None:
            self._read = asyncio.create_task(self._next())
            # Mark the exception as retrieved: the next reader raises it, if there is one.
            self._read.add_done_callback(lambda read: read.cancelled() or read.exception())
        response = await asyncio.shield(self._read)
        self._read = None
        if response is None:
            raise StopAsyncIteration
        return response

    async def _next(self) -> Any:
        return await anext(self._responses, None)


def when_ended(stream: SharedStream, callback: Callable[[], None]) -> None:
    """Calls `callback` when a stream ends, immediately if it has already ended."""
    stream.call.add_done_callback(lambda _: callback())


async def ended_well(stream: SharedStream) -> bool:
    """Whether a stream ended with status OK: the server has sent all its messages."""
    return await stream.call.code() is grpc.StatusCode.OK


def in_background(method: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> object:
    """Starts a method in a task; the caller must keep the returned task, or it may be garbage-collected."""
    return asyncio.get_running_loop().create_task(method(*args))


def starter() -> Callable[..., None]:
    """Returns a function that starts a method in the running event loop, from any thread, and does not wait."""
    loop = asyncio.get_running_loop()

    def start(method: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        asyncio.run_coroutine_threadsafe(method(*args), loop)

    return start


class Mailbox:
    """Messages of background tasks to the task that started them."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, message: Any) -> None:
        """Adds a message."""
        self._messages.put_nowait(message)

    async def get(self, seconds: float | None) -> Any:
        """Waits for the next message and returns it; None after so many seconds without one, None for no limit."""
        try:
            async with asyncio.timeout(seconds):
                return await self._messages.get()
        except TimeoutError:
            return None


async def once(call: Callable[[], Awaitable[_T]], connection: BaseConnection) -> _T:
    """Makes a call once, without retries.

    Raises:
        grpc.RpcError: the call failed.
        UnavailableError: the client was closed during the call.
    """
    try:
        return await call()
    except asyncio.CancelledError:
        if (error := _closing_error(connection)) is not None:
            raise error from None
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        # grpc.aio cancels a call if its status arrives while a request message is being written.
        raise StreamEndedError("the call was interrupted") from None


@contextmanager
def closing_as_error(connection: BaseConnection) -> Iterator[None]:
    """Raises UnavailableError for a stream of the block that ends because the client is closed."""
    try:
        yield
    except asyncio.CancelledError:
        if (reason := _closing_error(connection)) is not None:
            raise reason from None
        raise


def _closing_error(connection: BaseConnection) -> UnavailableError | None:
    """The error for a CancelledError that closing the client has caused; None if the task itself was canceled."""
    task = asyncio.current_task()
    if not connection.closed or (task is not None and task.cancelling()):
        return None
    return closed_meanwhile(connection.target)
