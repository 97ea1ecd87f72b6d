"""The channels of a client, created at the first call in each event loop or process.

A gRPC channel belongs to the event loop or the process that created it. A client does not: it can be created at module
level, before an event loop runs or worker processes are forked, and can be used in several of them.
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
# Id of the process in which this program first used gRPC.
_first_process: int | None = None
# Whether this process was forked while a stream was open.
_forked_with_stream = False
# Objects of the parent process, kept forever: deleting a channel here would close it in the parent.
_inherited: list[Any] = []


class Stubs:
    """A channel and the stubs of its services."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.style = StyleTransferServiceStub(channel)
        self.jobs = JobServiceStub(channel)
        self.models = ModelServiceStub(channel)


def _check_fork() -> None:
    """Checks that gRPC works in this process.

    Raises:
        RuntimeError: gRPC calls would hang, because of how this process was forked.
    """
    global _first_process
    _first_process = _first_process or os.getpid()
    name = "GRPC_ENABLE_FORK_SUPPORT"
    if _forked_with_stream:
        raise RuntimeError(
            "this process was forked while a stream of a client was open, which gRPC does not support: fork before "
            "jobs are submitted, or start processes with the method 'spawn'"
        )
    if _first_process != os.getpid() and os.environ.get(name, "1").lower() in ("0", "false", "no", "n", "off"):
        raise RuntimeError(
            f"this process was forked from a process that had used gRPC, which {name}={os.environ[name]} does not "
            "allow: unset it, start processes with the method 'spawn', or use no client before the fork"
        )


class ProcessStubs:
    """The stubs of a synchronous client: one channel for all threads of a process, and a new one after a fork.

    Args:
        dial: opens a channel.
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
        """Whether a stream is open, and so a thread of gRPC is running for it."""
        state = None if self._stubs is None else getattr(self._stubs.channel, "_call_state", None)
        return bool(getattr(state, "managed_calls", 0))

    def current(self) -> Stubs:
        """Returns the stubs of this process.

        Raises:
            RuntimeError: the client is closed.
        """
        if self._process != os.getpid():
            # Replace the lock, too: a thread of the parent process may have held it during the fork.
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
        """Closes the channel; later calls raise RuntimeError."""
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
    """Notes, in a forked process, whether a stream was open in the parent process."""
    global _forked_with_stream
    _forked_with_stream = _forked_with_stream or any(stubs.streaming for stubs in list(_all))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class LoopStubs:
    """The stubs of an asynchronous client: one channel for each event loop that uses it.

    Args:
        dial: opens a channel of the running loop.
    """

    def __init__(self, dial: Callable[[], Any]) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._stubs: dict[asyncio.AbstractEventLoop, Stubs] = {}
        self._closed = False

    def current(self) -> Stubs:
        """Returns the stubs of the running event loop.

        Raises:
            RuntimeError: the client is closed, or no event loop is running.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            if (stubs := self._stubs.get(loop)) is None:
                _check_fork()
                # Drop the channels of closed loops: a channel refers to its loop and keeps it from being collected.
                self._stubs = {other: stubs for other, stubs in self._stubs.items() if not other.is_closed()}
                stubs = self._stubs[loop] = Stubs(self._dial())
            return stubs

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    async def close(self) -> None:
        """Closes all channels; those of other running loops in the background. Later calls raise RuntimeError."""
        with self._lock:
            self._closed = True
            all_stubs, self._stubs = self._stubs, {}
        running_loop = asyncio.get_running_loop()
        for loop, stubs in all_stubs.items():
            if loop is running_loop:
                await stubs.channel.close()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # The loop has just been closed.
                    asyncio.run_coroutine_threadsafe(stubs.channel.close(), loop)
