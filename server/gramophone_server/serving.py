"""Runs a server from its start to its end."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from gramophone.runtime import Record, registered, setting

from .api.server import GramophoneServer
from .settings import LifetimeSettings, Settings
from .stopping import Stopping

# Seconds for the end of a server that was told to stop before it had started.
_HALF_STARTED = 2.0


async def run(settings: Settings, stopping: Stopping, *, is_found: bool) -> str | None:
    """Serves until it is told to stop, has had no work for long, or cannot go on; a sentence on why it cannot.

    Args:
        is_found: whether commands of this user find it.

    Raises:
        RuntimeError, DataFolderError, UnknownModelError, SecurityError, TokenFileError: see GramophoneServer.
    """
    told, loop, status, lifetime = asyncio.Event(), asyncio.get_running_loop(), 1, settings.lifetime
    server = GramophoneServer(settings)
    stopping.listen(lambda: _call(loop, told.set), lambda: _call(loop, server.reload_soon))
    try:
        if not await _is_first(server.start(), told):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(server.stop(0.0), _HALF_STARTED)
            status = 0
            return None
        with _registered(server.address, lifetime) if is_found else contextlib.nullcontext():
            # A parent process and a person both read this line; nothing else goes to standard output.
            print(f"serving on {server.address}", flush=True)
            is_first = await _is_first(_at_end(server, lifetime.leave_after), told)
        if is_first:
            stopping.begin()
            await server.stop(0.0)
            status = 1 if server.failure else 0
            return server.failure
        await server.stop(lifetime.grace)
        status = 0
        return None
    finally:
        stopping.finish(status)


async def _at_end(server: GramophoneServer, leave_after: float | None) -> None:
    """Waits until the server cannot go on, or has nothing to go on for."""
    waiting = [asyncio.create_task(server.failed())]
    if leave_after is not None:
        waiting.append(asyncio.create_task(server.idle(leave_after)))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _registered(address: str, lifetime: LifetimeSettings) -> contextlib.AbstractContextManager[None]:
    return registered(Record(address, os.getpid(), setting(), lifetime.kept_for))


async def _is_first(work: Awaitable[Any], told: asyncio.Event) -> bool:
    """Whether the work is done before it is told to stop; what it raises is raised. Else it is cancelled."""
    working, stopped = asyncio.ensure_future(work), asyncio.create_task(told.wait())
    await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not working.done():
        working.cancel()
        return False
    await working
    return True


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    # RuntimeError: the loop has closed, so that nobody is left to be told.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)
