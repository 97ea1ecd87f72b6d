"""A connection: uvicorn's HTTP/1.1 protocol, with limits on the number of connections and on slow requests."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .errors import CallError, Code
from .requests import CERTIFICATE

# Seconds in which the head of a request must arrive.
_HEAD_SECONDS = 10.0
# Bytes that the system may hold before it has sent them.
_UNSENT = 128 << 10
# Seconds of silence, seconds between probes, and probes, after which the system closes a half-open connection.
_KEEPALIVE = {"TCP_KEEPIDLE": 40, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}


class Connection(H11Protocol):
    """A connection with a client.

    Args:
        limit: maximum number of connections; a new one above it closes one that is idle, or else is closed itself.
    """

    def __init__(self, config: Config, state: ServerState, limit: int) -> None:
        super().__init__(config, state, {})
        self._limit = limit
        self._waiting: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: Any) -> None:
        """Accepts the connection, or closes it if there are too many."""
        if len(self.connections) >= self._limit and not self._close_idle():
            self._is_refused = True
            transport.abort()
            return
        super().connection_made(transport)
        self.app_state = {CERTIFICATE: _certificate(transport.get_extra_info("ssl_object"))}
        _set_options(transport.get_extra_info("socket"))
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_waiting()
        if not self._is_refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads a part of a request."""
        if self._is_refused:
            return
        super().data_received(data)
        if self._is_busy:
            self._stop_waiting()
        elif self._waiting is None:
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not an HTTP request, and closes the connection."""
        error = CallError(Code.INVALID_ARGUMENT, "this is not an HTTP request, or its head has more than 16 KiB")
        data = error.json()
        headers = [("content-type", "application/json"), ("content-length", str(len(data))), ("connection", "close")]
        with contextlib.suppress(h11.LocalProtocolError):
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (response, h11.Data(data=data), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_idle(self) -> bool:
        """Closes a connection that waits for its next request; returns whether there is one."""
        for other in self.connections:
            if isinstance(other, Connection) and not other._is_busy:
                self.connections.discard(other)
                other.transport.abort()
                return True
        return False

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._is_busy:
            self.transport.abort()


def _certificate(connection: ssl.SSLObject | None) -> Mapping[str, Sequence[bytes]]:
    """Returns the client's certificate, its common name and its DNS names, under the names that gRPC gives them."""
    der = None if connection is None else connection.getpeercert(binary_form=True)
    if connection is None or der is None:
        return {}
    fields: Any = connection.getpeercert() or {}
    subject = [value for part in fields.get("subject", ()) for key, value in part if key == "commonName"]
    names = [value for kind, value in fields.get("subjectAltName", ()) if kind == "DNS"]
    return {
        "x509_pem_cert": (ssl.DER_cert_to_PEM_cert(der).encode(),),
        "x509_common_name": [name.encode() for name in subject[:1]],
        "peer_dns": [name.encode() for name in names],
    }


def _set_options(found: Any) -> None:
    """Lets the system close the connection when the client's machine has gone, and bounds what it has not sent yet."""
    with contextlib.suppress(OSError, AttributeError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    with contextlib.suppress(OSError, AttributeError):
        # Without the limit the system takes megabytes of events, which a slow reader would get late.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
