"""Runs a server until it stops."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from gramophone.runtime import Record, registered, setting

from .api.server import GramophoneServer
from .settings import LifetimeSettings, Settings
from .stopping import Stopping

# Seconds to stop a server whose start was interrupted.
_START_CLEANUP = 2.0


async def run(
    settings: Settings, stopping: Stopping, *, is_discoverable: bool, on_start: Callable[[str], object] = bool
) -> str | None:
    """Serves until the process is told to stop, the server was idle for `leave_after`, or the server fails.

    Args:
        is_discoverable: whether commands of the same user find this server and use it.
        on_start: is called with the URL of HTTP, empty without HTTP, as soon as the server serves.

    Returns:
        why the server failed, as a sentence; None if it did not fail.

    Raises:
        RuntimeError, DataFolderError, UnknownModelError, SecurityError, TokenFileError: see GramophoneServer.
    """
    stop_requested, loop, status, lifetime = asyncio.Event(), asyncio.get_running_loop(), 1, settings.lifetime
    server = GramophoneServer(settings)
    stopping.listen(lambda: _call(loop, stop_requested.set), lambda: _call(loop, server.reload_soon))
    try:
        if not await _finishes_first(server.start(), stop_requested):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(server.stop(0.0), _START_CLEANUP)
            status = 0
            return None
        with _registered(server, lifetime) if is_discoverable else contextlib.nullcontext():
            # Parent processes parse these lines; nothing else goes to standard output.
            lines = [f"serving on {address}" for address in (server.address, server.url) if address]
            print("\n".join(lines), flush=True)
            on_start(server.url)
            ended_itself = await _finishes_first(_wait_for_end(server, lifetime.leave_after), stop_requested)
        if ended_itself:
            stopping.begin()
            await server.stop(0.0)
            status = 1 if server.failure else 0
            return server.failure
        await server.stop(lifetime.grace)
        status = 0
        return None
    finally:
        stopping.finish(status)


async def _wait_for_end(server: GramophoneServer, leave_after: float | None) -> None:
    """Waits until the server fails or, if `leave_after` is set, is idle for so many seconds."""
    waiting = [asyncio.create_task(server.failed())]
    if leave_after is not None:
        waiting.append(asyncio.create_task(server.idle(leave_after)))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _registered(server: GramophoneServer, lifetime: LifetimeSettings) -> contextlib.AbstractContextManager[None]:
    return registered(Record(server.address, os.getpid(), setting(), lifetime.kept_for, server.url))


async def _finishes_first(work: Awaitable[Any], stop_requested: asyncio.Event) -> bool:
    """Returns whether the work ends before `stop_requested` is set; raises its exceptions. Else cancels the work."""
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop_requested.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        return False
    await working
    return True


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    # RuntimeError: the loop has closed, so the server has stopped already.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)
