"""How the asynchronous client waits; `_sync/waiting.py` has the same names for the synchronous one."""

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
    "Later", "Stubs", "Submission", "cut_off_as_error", "ended_well", "here", "in_background", "in_thread", "once",
    "sleep", "when_ended",
]  # fmt: skip

_T = TypeVar("_T")
Later = Awaitable
"""What a call that may wait returns."""
sleep = asyncio.sleep
in_thread = asyncio.to_thread


def here() -> object:
    """Where streams begun now can be read: the running loop."""
    return asyncio.get_running_loop()


class Submission:
    """The stream of a submission, which outlives its readers: gRPC ends others with the task that reads them."""

    def __init__(self, stream: Any) -> None:
        self.call = stream
        self._responses = aiter(stream)
        self._read: asyncio.Task[Any] | None = None

    def __aiter__(self) -> Submission:
        return self

    async def __anext__(self) -> Any:
        if self._read is None:
            self._read = asyncio.create_task(self._next())
            # What it fails of is for its reader, if there is one.
            self._read.add_done_callback(lambda read: read.cancelled() or read.exception())
        response = await asyncio.shield(self._read)
        self._read = None
        if response is None:
            raise StopAsyncIteration
        return response

    async def _next(self) -> Any:
        return await anext(self._responses, None)


def when_ended(stream: Submission, callback: Callable[[], None]) -> None:
    """Calls back when a stream has ended, at once if it has."""
    stream.call.add_done_callback(lambda _: callback())


async def ended_well(stream: Submission) -> bool:
    """Whether a stream that has ended did so because all was sent."""
    return await stream.call.code() is grpc.StatusCode.OK


def in_background(method: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> object:
    """Runs a method beside its caller; what is returned is to be kept meanwhile."""
    return asyncio.get_running_loop().create_task(method(*args))


async def once(call: Callable[[], Awaitable[_T]], connection: BaseConnection) -> _T:
    """One try of a call.

    Raises:
        grpc.RpcError: it failed.
        UnavailableError: the client was closed meanwhile.
    """
    try:
        return await call()
    except asyncio.CancelledError:
        if (error := _cut_off(connection)) is not None:
            raise error from None
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        # grpc.aio cancels a call whose end comes while a piece of its request is being written.
        raise StreamEndedError("the call was broken off") from None


@contextmanager
def cut_off_as_error(connection: BaseConnection) -> Iterator[None]:
    """Tells of a stream that closing the client has ended by UnavailableError."""
    try:
        yield
    except asyncio.CancelledError:
        if (reason := _cut_off(connection)) is not None:
            raise reason from None
        raise


def _cut_off(connection: BaseConnection) -> UnavailableError | None:
    """What a CancelledError stands for in a task that nobody cancels: a call ended by closing the client."""
    task = asyncio.current_task()
    if not connection.closed or (task is not None and task.cancelling()):
        return None
    return closed_meanwhile(connection.target)
