"""Serves the metrics over HTTP on the event loop, with few connections and one request on each."""

import asyncio
import contextlib
import gzip
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

# Maximum connections; a new one above it closes the oldest.
_MAX_CONNECTIONS = 64
# Seconds a client has to send its request, and to receive the response.
_READ_TIMEOUT, _WRITE_TIMEOUT = 5.0, 10.0
# Maximum bytes of a request.
_MAX_REQUEST = 16 << 10
_END = b"\r\n\r\n"


class Exposition:
    """An HTTP server that serves only `GET /metrics` and closes each connection after one response.

    Args:
        refresh: is awaited before the metrics are collected.
    """

    def __init__(self, registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]) -> None:
        self._registry = registry
        self._refresh = refresh
        self._server: asyncio.Server | None = None
        # Open connections, the oldest first.
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def encoded(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics in a format that an Accept header allows, and its content type."""
        await self._refresh()
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    async def start(self, host: str, port: int) -> int:
        """Starts to listen and returns the port; port 0 chooses a free one.

        Raises:
            OSError: the port cannot be bound.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=_MAX_REQUEST)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop(self) -> None:
        """Closes the port and all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= _MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        # With a limit of 0, `drain` waits until the whole response has been passed to the system.
        writer.transport.set_write_buffer_limits(0)
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_READ_TIMEOUT):
                    response = await self._respond(reader)
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    writer.write(response)
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head, *lines = (await reader.readuntil(_END)).decode("latin-1").split("\r\n")
            method, target, _ = head.split(" ")
        except (asyncio.LimitOverrunError, ValueError):
            return _response(HTTPStatus.BAD_REQUEST, b"this is not an HTTP request\n")
        if target.partition("?")[0] != "/metrics":
            return _response(HTTPStatus.NOT_FOUND, b"the metrics are at /metrics\n")
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"use GET or HEAD\n", Allow="GET, HEAD")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body, kind = await self.encoded(headers.get("accept", ""))
        more = {"Content-Type": kind}
        if gzip_accepted(headers.get("accept-encoding", "")):
            body, more["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return _response(HTTPStatus.OK, body, empty=method == "HEAD", **more)


def _response(status: HTTPStatus, body: bytes, *, empty: bool = False, **headers: str) -> bytes:
    headers = {"Content-Type": "text/plain; charset=utf-8"} | headers
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + _END + (b"" if empty else body)
