"""How the synchronous client waits; `_async/waiting.py` has the same names for the asynchronous one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import grpc

from ..base_connection import BaseConnection
from ..stubs import ProcessStubs as Stubs

__all__ = [
    "Later", "Stubs", "Submission", "cut_off_as_error", "ended_well", "here", "in_background", "in_thread", "once",
    "sleep", "when_ended",
]  # fmt: skip

_T = TypeVar("_T")
Later = Annotated[_T, "at once"]
"""What a call that may wait returns."""
sleep = time.sleep


def in_thread(call: Callable[..., _T], *args: Any, **options: Any) -> _T:
    """Makes a call that takes a while; here the caller waits for it anyway."""
    return call(*args, **options)


def here() -> object:
    """Where streams begun now can be read: this process."""
    return os.getpid()


def Submission(stream: Any) -> Any:
    """The stream of a submission, which outlives its readers."""
    return stream


def when_ended(stream: Any, callback: Callable[[], None]) -> None:
    """Calls back when a stream has ended, at once if it has; in gRPC's thread, which must not wait."""
    if not stream.add_callback(callback):
        callback()


def ended_well(stream: Any) -> bool:
    """Whether a stream that has ended did so because all was sent."""
    return bool(stream.code() is grpc.StatusCode.OK)


def in_background(method: Callable[..., None], *args: Any) -> object:
    """Runs a method beside its caller; what is returned is to be kept meanwhile."""
    thread = threading.Thread(target=method, args=args, daemon=True)
    thread.start()
    return thread


def once(call: Callable[[], _T], connection: BaseConnection) -> _T:
    """One try of a call.

    Raises:
        grpc.RpcError: it failed.
    """
    return call()


@contextmanager
def cut_off_as_error(connection: BaseConnection) -> Iterator[None]:
    """Tells of a stream that closing the client has ended by UnavailableError; gRPC's threads do by themselves."""
    yield
