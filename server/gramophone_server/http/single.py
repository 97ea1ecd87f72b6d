"""Calls with one request."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from google.protobuf.message import Message

from .calls import CallContext, Calls


async def one(message: Message) -> AsyncIterator[bytes]:
    """Yields one serialized request."""
    yield message.SerializeToString()


async def first_response(
    calls: Calls,
    method: str,
    make_context: Callable[[AsyncIterator[bytes]], CallContext],
    requests: AsyncIterator[bytes],
) -> Message:
    """Calls a method, returns its first response, and closes the stream.

    Raises:
        CallError: the call has failed.
    """
    async with aclosing(calls.responses(method, make_context(requests))) as responses:
        return await anext(responses)
