"""The channels of a client: each made at the first call, where that call is made.

gRPC's channels are bound to the event loop, or the process, that made them. A client is not: it may be made in a
module, before there is any loop or before workers are forked, and be used from several of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from .v1.job_service_pb2_grpc import JobServiceStub
from .v1.model_service_pb2_grpc import ModelServiceStub
from .v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub

_CLOSED = "this client is closed; make a new one"
# The process in which this program first used gRPC, and whether this one was forked from it at a bad moment.
_first: int | None = None
_torn = False
# What another process made stays as it is: to end it here would end it there.
_inherited: list[Any] = []


class Stubs:
    """A channel, and the services behind it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.style = StyleTransferServiceStub(channel)
        self.jobs = JobServiceStub(channel)
        self.models = ModelServiceStub(channel)


def _check_fork() -> None:
    """Sees that gRPC works in this process.

    Raises:
        RuntimeError: it would wait for ever.
    """
    global _first
    _first = _first or os.getpid()
    name = "GRPC_ENABLE_FORK_SUPPORT"
    if _torn:
        raise RuntimeError(
            "this process was forked while a stream of a client was open, which gRPC does not survive: fork before "
            "jobs are submitted, or start processes with the method 'spawn'"
        )
    if _first != os.getpid() and os.environ.get(name, "1").lower() in ("0", "false", "no", "n", "off"):
        raise RuntimeError(
            f"this process was forked from one that had used gRPC, which {name}={os.environ[name]} does not allow: "
            "unset that, start processes with the method 'spawn', or use no client before the fork"
        )


class ProcessStubs:
    """The stubs of a synchronous client: one channel for all threads of a process, and another after a fork.

    Args:
        dial: makes a channel.
    """

    def __init__(self, dial: Callable[[], Any]) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._stubs: Stubs | None = None
        self._process = os.getpid()
        self._closed = False

        _all.add(self)

    @property
    def streaming(self) -> bool:
        """Whether a stream is open, which a thread of gRPC's attends to."""
        state = None if self._stubs is None else getattr(self._stubs.channel, "_call_state", None)
        return bool(getattr(state, "managed_calls", 0))

    def here(self) -> Stubs:
        """Those of this process.

        Raises:
            RuntimeError: the client is closed.
        """
        if self._process != os.getpid():
            # The lock may have been held by a thread that this process does not have.
            _inherited.append((self._lock, self._stubs))
            self._lock, self._stubs, self._process = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            if self._stubs is None:
                _check_fork()
                self._stubs = Stubs(self._dial())
            return self._stubs

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def close(self) -> None:
        """Closes the channel for good."""
        with self._lock:
            self._closed = True
            stubs, self._stubs = self._stubs, None
        if stubs is None:
            return
        if self._process == os.getpid():
            stubs.channel.close()
        else:
            _inherited.append(stubs)


_all: WeakSet[ProcessStubs] = WeakSet()


def _note_fork() -> None:
    """In a new process: sees how the one that it was forked from was."""
    global _torn
    _torn = _torn or any(stubs.streaming for stubs in list(_all))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class LoopStubs:
    """The stubs of an asynchronous client: a channel for each event loop that it is used in.

    Args:
        dial: makes a channel, of the running loop.
    """

    def __init__(self, dial: Callable[[], Any]) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._stubs: dict[asyncio.AbstractEventLoop, Stubs] = {}
        self._closed = False

    def here(self) -> Stubs:
        """Those of the running loop.

        Raises:
            RuntimeError: the client is closed, or no loop runs.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            if (stubs := self._stubs.get(loop)) is None:
                _check_fork()
                # Channels refer to their loops, which would never be collected.
                self._stubs = {other: stubs for other, stubs in self._stubs.items() if not other.is_closed()}
                stubs = self._stubs[loop] = Stubs(self._dial())
            return stubs

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    async def close(self) -> None:
        """Closes all channels for good: those of other loops, as far as these still run, in the background."""
        with self._lock:
            self._closed = True
            all_stubs, self._stubs = self._stubs, {}
        here = asyncio.get_running_loop()
        for loop, stubs in all_stubs.items():
            if loop is here:
                await stubs.channel.close()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # It has been closed meanwhile.
                    asyncio.run_coroutine_threadsafe(stubs.channel.close(), loop)
