"""Listens for HTTP connections on the event loop of the server, and closes them in order."""

import asyncio
import contextlib
import logging
import ssl
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from .connection import Connection

# Maximum number of bytes of a request's head, as gRPC's metadata.
_MAX_HEAD = 16 << 10
# Seconds of a TLS handshake.
_HANDSHAKE = 5.0


class Listener:
    """Serves an ASGI application.

    Args:
        limit: maximum number of connections.
        idle: seconds after which a connection without a request is closed.
    """

    def __init__(self, app: Any, limit: int, idle: float) -> None:
        # uvicorn's own server is not used: it handles signals, and wakes up ten times a second.
        self._config = Config(
            app,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=max(1, round(idle)),
            h11_max_incomplete_event_size=_MAX_HEAD,
        )
        self._limit = limit
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Starts to listen and returns the port; port 0 chooses a free one.

        Raises:
            OSError: the port cannot be bound.
        """
        self._config.load()
        # The application logs its own failures; those of clients are no concern of the log.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._config, self._state, self._limit),
            host or None,
            port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else _HANDSHAKE,
            backlog=1024,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace: float) -> None:
        """Closes the port and idle connections, and after `grace` seconds the other ones."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            with contextlib.suppress(Exception):
                connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=grace)
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=grace)
