"""Serves the metrics over HTTP on the event loop: few connections, each for one short request."""

import asyncio
import contextlib
import gzip
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

# Connections at once; of more, the one that has been silent for longest goes.
_MOST = 64
# Seconds for sending a request, and for taking its answer; bytes that a request may have.
_ASKING, _TAKING = 5.0, 10.0
_MOST_REQUEST = 16 << 10
_END = b"\r\n\r\n"


class Exposition:
    """An HTTP server that answers `GET /metrics` and nothing else, and closes each connection after it.

    Args:
        look: is awaited before the metrics are written.
    """

    def __init__(self, registry: CollectorRegistry, look: Callable[[], Awaitable[None]]) -> None:
        self._registry = registry
        self._look = look
        self._server: asyncio.Server | None = None
        # In the order in which they came.
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which is a free one for 0.

        Raises:
            OSError: the port cannot be had.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=_MOST_REQUEST)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop(self) -> None:
        """Closes the port and all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= _MOST:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        # Writing is done when all of it has been taken.
        writer.transport.set_write_buffer_limits(0)
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_ASKING):
                    answer = await self._answer(reader)
                async with asyncio.timeout(_TAKING):
                    writer.write(answer)
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head, *lines = (await reader.readuntil(_END)).decode("latin-1").split("\r\n")
            method, target, _ = head.split(" ")
        except (asyncio.LimitOverrunError, ValueError):
            return _answer(HTTPStatus.BAD_REQUEST, b"this is not a request for metrics\n")
        if target.partition("?")[0] != "/metrics":
            return _answer(HTTPStatus.NOT_FOUND, b"the metrics are at /metrics\n")
        if method not in ("GET", "HEAD"):
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, b"metrics can be got, no more\n", Allow="GET, HEAD")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await self._look()
        encode, kind = choose_encoder(headers.get("accept", ""))
        body, more = encode(self._registry), {"Content-Type": kind}
        if gzip_accepted(headers.get("accept-encoding", "")):
            body, more["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return _answer(HTTPStatus.OK, body, empty=method == "HEAD", **more)


def _answer(status: HTTPStatus, body: bytes, *, empty: bool = False, **headers: str) -> bytes:
    headers = {"Content-Type": "text/plain; charset=utf-8"} | headers
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + _END + (b"" if empty else body)
