"""Runs a server from its start to its end."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from .service.server import GramophoneServer, ServerConfig
from .stopping import Stopping

# Seconds for the end of a server that was told to stop before it had started.
_HALF_STARTED = 2.0


async def run(config: ServerConfig, grace: float, stopping: Stopping) -> str | None:
    """Serves until it is told to stop, or cannot go on; a sentence on why it cannot.

    Raises:
        RuntimeError, DataFolderError, UnknownModelError, SecurityError, TokenFileError: see GramophoneServer.
    """
    told, loop, status = asyncio.Event(), asyncio.get_running_loop(), 1
    server = GramophoneServer(config)
    stopping.listen(lambda: _call(loop, told.set), lambda: _call(loop, server.reload_soon))
    try:
        if not await _is_first(server.start(), told):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(server.stop(0.0), _HALF_STARTED)
            status = 0
            return None
        # A parent process and a person both read this line; nothing else goes to standard output.
        print(f"serving on {server.address}", flush=True)
        if await _is_first(server.failed(), told):
            stopping.begin()
            await server.stop(0.0)
            return server.failure
        await server.stop(grace)
        status = 0
        return None
    finally:
        stopping.finish(status)


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
