"""Sets up HTTP over the handlers of the gRPC server. Imported only by a server that serves HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ..http.calls import CallContext, Calls
from ..http.requests import Headers
from ..http.server import HttpServer
from ..observability.instruments import Instruments
from ..observability.readiness import Readiness
from ..rpc.errors import abort
from ..rpc.methods import MethodTable
from ..security.caller import current_caller
from ..security.tls import Certificates
from ..settings import Settings


def http_server(
    settings: Settings,
    services: Iterable[ServiceDescriptor],
    methods: MethodTable,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    authenticators: Sequence[grpc.aio.ServerInterceptor],
    *,
    certificates: Certificates | None,
    max_connections: int,
    readiness: Readiness,
    instruments: Instruments,
) -> HttpServer:
    """Returns the server of HTTP.

    Args:
        services: the descriptors of the services.
        methods: their handlers.
        interceptors: all interceptors of the gRPC server.
        authenticators: the ones of these that authenticate callers; empty without authentication.
        certificates: the certificates of both ports; None for plaintext.
    """
    metrics = Calls(lambda _: grpc.stream_unary_rpc_method_handler(_check_admin), authenticators, 64)

    def health() -> list[str] | None:
        return None if readiness.serving else list(readiness.reasons.values()) or ["the server is starting or stopping"]

    async def read_metrics(context: CallContext, accept: str) -> tuple[bytes, Headers]:
        async for _ in metrics.responses("/metrics", context):
            pass
        body, kind = await instruments.metrics(accept)
        return body, [("content-type", kind), ("cache-control", "no-store")]

    return HttpServer(
        settings.http,
        services,
        methods,
        interceptors,
        certificates=certificates,
        max_calls=settings.limits.max_calls,
        max_connections=max_connections,
        idle=settings.connection.idle_timeout,
        health=health,
        metrics=read_metrics,
    )


async def _check_admin(_: AsyncIterator[bytes], context: Any) -> None:
    """Lets only administrators read the metrics: they count the jobs of all clients."""
    if not current_caller().admin:
        await abort(context, grpc.StatusCode.PERMISSION_DENIED, "only administrators may read the metrics")
