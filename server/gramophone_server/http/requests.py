"""An HTTP request as ASGI describes it, and its response."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from .calls import CallContext
from .errors import CallError, Code

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = Sequence[tuple[str, str]]

CERTIFICATE = "gramophone.certificate"
"""The key in the state of a connection for the properties of the client's certificate, as gRPC names them."""

# The units of grpc-timeout in seconds.
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Request:
    """An HTTP request.

    Attributes:
        method, path: as in its first line; the path without the query, decoded.
        headers: its headers, with lower-case names.
        body_read: is set when the whole body has been read.

    Raises:
        CallError: a header or the query has bytes that are not ASCII.
    """

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        self.scope = scope
        self.body_read = asyncio.Event()
        self._receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        try:
            self.headers = [(name.decode("ascii"), value.decode("ascii")) for name, value in scope["headers"]]
            self._query: str = scope["query_string"].decode("ascii")
        except UnicodeDecodeError:
            raise CallError(Code.INVALID_ARGUMENT, "a header or the query has bytes that are not ASCII") from None

    async def receive(self) -> Any:
        """Returns the next message of ASGI."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.body_read.set()
        return message

    def header(self, name: str) -> str | None:
        """Returns a header's value; None if it is missing.

        Raises:
            CallError: the header is there more than once.
        """
        values = [value for known, value in self.headers if known == name]
        if len(values) > 1:
            raise CallError(Code.INVALID_ARGUMENT, f"the header {name} is there {len(values)} times; send it once")
        return values[0] if values else None

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the query, as (name, value)."""
        try:
            return parse_qsl(self._query, keep_blank_values=True, max_num_fields=100)
        except ValueError:
            raise CallError(Code.INVALID_ARGUMENT, "the query has more than 100 parameters") from None

    def parameter(self, name: str) -> str | None:
        """Returns the value of a parameter of the query; None if it is missing."""
        return next((value for known, value in self.query if known == name), None)

    def context(self, requests: AsyncIterator[bytes]) -> CallContext:
        """Returns the context of a call that this request makes.

        Args:
            requests: yields the serialized requests of the call.
        """
        host, port = self.scope["client"] or ("unknown", 0)
        peer = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        certificate = self.scope.get("state", {}).get(CERTIFICATE, {})
        return CallContext(requests, self.headers, peer, certificate, self._timeout())

    def _timeout(self) -> float | None:
        if (milliseconds := self.header("connect-timeout-ms")) and re.fullmatch(r"\d{1,10}", milliseconds, re.ASCII):
            return int(milliseconds) / 1000
        if (timeout := self.header("grpc-timeout")) and re.fullmatch(r"\d{1,8}[HMSmun]", timeout, re.ASCII):
            return int(timeout[:-1]) * _UNITS[timeout[-1]]
        return None


async def body(receive: Receive) -> AsyncIterator[bytes]:
    """Yields the body of a request in the pieces in which it arrives.

    Raises:
        CallError: the client has left.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallError(Code.CANCELLED, "the client has left before the end of its request")
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            yield piece


async def start(send: Send, status: int, headers: Headers) -> None:
    """Sends the head of a response."""
    raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def write(send: Send, data: bytes, *, more: bool = True) -> None:
    """Sends a piece of the body of a response; waits if the client reads slowly."""
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def respond(send: Send, status: int, data: bytes = b"", headers: Headers = ()) -> None:
    """Sends a whole response."""
    length = [] if status in (204, 304) else [("content-length", str(len(data)))]
    await start(send, status, [*headers, *length])
    await write(send, data, more=False)


async def respond_error(send: Send, error: CallError) -> None:
    """Sends an error as JSON."""
    await respond(send, error.status, error.json(), [("content-type", "application/json"), *error.headers])
