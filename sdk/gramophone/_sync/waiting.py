"""Waiting, threads and streams of the synchronous client; `_async/waiting.py` defines the same names for the other."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import grpc

from ..base_connection import BaseConnection
from ..stubs import ProcessStubs as Stubs

__all__ = [
    "Mailbox", "MaybeAwaitable", "SharedStream", "Stubs", "closing_as_error", "ended_well", "in_background",
    "in_thread", "once", "sleep", "starter", "stream_owner", "when_ended",
]  # fmt: skip

_T = TypeVar("_T")
MaybeAwaitable = Annotated[_T, "not awaitable"]
"""Type of the result of a call: an Awaitable in the asynchronous client, the value itself in the synchronous client."""
sleep = time.sleep


def in_thread(call: Callable[..., _T], *args: Any, **options: Any) -> _T:
    """Makes a slow call; the synchronous client makes it in the caller's thread."""
    return call(*args, **options)


def stream_owner() -> object:
    """The id of this process: the only one that can read streams opened now."""
    return os.getpid()


def SharedStream(stream: Any) -> Any:
    """The stream of a submitted job, which several threads can read one after the other."""
    return stream


def when_ended(stream: Any, callback: Callable[[], None]) -> None:
    """Calls `callback` when a stream ends, immediately if it has already ended.

    gRPC calls it in one of its threads, so it must not block.
    """
    if not stream.add_callback(callback):
        callback()


def ended_well(stream: Any) -> bool:
    """Whether a stream ended with status OK: the server has sent all its messages."""
    return bool(stream.code() is grpc.StatusCode.OK)


def in_background(method: Callable[..., None], *args: Any) -> object:
    """Starts a method in a daemon thread, which is returned."""
    thread = threading.Thread(target=method, args=args, daemon=True)
    thread.start()
    return thread


def starter() -> Callable[..., object]:
    """Returns a function that starts a method, from any thread, and does not wait."""
    return in_background


class Mailbox:
    """Messages of background threads to the thread that started them."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, message: Any) -> None:
        """Adds a message."""
        self._messages.put(message)

    def get(self, seconds: float | None) -> Any:
        """Waits for the next message and returns it; None after so many seconds without one, None for no limit."""
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            return None


def once(call: Callable[[], _T], connection: BaseConnection) -> _T:
    """Makes a call once, without retries.

    Raises:
        grpc.RpcError: the call failed.
    """
    return call()


@contextmanager
def closing_as_error(connection: BaseConnection) -> Iterator[None]:
    """Does nothing: in the synchronous client gRPC itself raises an RpcError for streams of a closed client."""
    yield
