"""The HTTP server: builds the application from the services' descriptors and handlers, and listens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ..rpc.methods import MethodTable
from ..security.tls import Certificates
from ..settings import HttpSettings
from .app import App, Health, Metrics
from .calls import Calls
from .endpoints import Endpoints
from .guard import Guard
from .listener import Listener
from .page import Page


class HttpServer:
    """Serves the services and the page over HTTP.

    Args:
        services: the descriptors of the services.
        methods: their handlers.
        interceptors: as of the gRPC server.
        certificates: the certificates of the port; None for plaintext.
        max_calls, max_connections: limits of calls and connections at once.
        idle: seconds after which a connection without a request is closed.
        health, metrics: see App.
    """

    def __init__(
        self,
        settings: HttpSettings,
        services: Iterable[ServiceDescriptor],
        methods: MethodTable,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        *,
        certificates: Certificates | None,
        max_calls: int,
        max_connections: int,
        idle: float,
        health: Health,
        metrics: Metrics,
    ) -> None:
        assert settings.address is not None
        self._host, self._port = settings.address
        self._certificates = certificates
        calls = Calls(methods.find, interceptors, max_calls)
        guard = Guard(self._host, settings.http_hosts, settings.http_origins)
        app = App(Endpoints(services, calls), calls, guard, Page(), health, metrics)
        self._listener = Listener(app, max_connections, idle)

    async def start(self) -> str:
        """Starts to listen and returns the URL.

        Raises:
            RuntimeError: the port cannot be bound.
        """
        tls = None if self._certificates is None else self._certificates.ssl_context()
        try:
            port = await self._listener.start(self._host, self._port, tls)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise RuntimeError(
                f"HTTP cannot be served on {self._host}:{self._port}: {reason}; change --http"
            ) from error
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if tls is None else 'https'}://{host}:{port}"

    async def stop(self, grace: float) -> None:
        """Closes the port, and after `grace` seconds all connections."""
        await self._listener.stop(grace)
