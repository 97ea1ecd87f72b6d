"""Ends the answer to a request when its client has left."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from .requests import Request


async def unless_left(request: Request, answer: Coroutine[Any, Any, None]) -> None:
    """Runs `answer`, and cancels it when the client leaves after the body of its request has been read."""
    if request.method in ("GET", "HEAD"):
        # Nothing reads the body of these.
        request.body_read.set()
    answering, watching = asyncio.ensure_future(answer), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (answering, watching):
            task.cancel()
        await asyncio.wait({answering, watching})
    if not answering.cancelled():
        answering.result()


async def _left(request: Request) -> None:
    await request.body_read.wait()
    while (await request.receive())["type"] != "http.disconnect":
        pass
