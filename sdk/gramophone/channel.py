"""Options of gRPC channels, and the metadata sent with each call."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

_Channel = TypeVar("_Channel")
Metadata = tuple[tuple[str, str], ...]

_OPTIONS: dict[str, Any] = {
    "grpc.max_send_message_length": -1,
    # Detects a dead connection within two minutes; the interval is far above the minimum that the server permits.
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # Close idle connections before the server does; the next call connects again.
    "grpc.client_idle_timeout_ms": 10_000,
    # Reconnect soon after a restart of the server: gRPC's default backoff is up to two minutes. The option
    # min_reconnect_backoff_ms is also the timeout of one connection attempt, so it must be enough for a slow network.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
}


def channel_options(more: Iterable[tuple[str, Any]] = ()) -> list[tuple[str, Any]]:
    """Returns the options of a channel; options in `more` override our own."""
    return list((_OPTIONS | dict(more)).items())


class MetadataChannel:
    """A channel, synchronous or asynchronous, that calls `metadata` for each call and sends what it returns."""

    def __init__(self, channel: Any, metadata: Callable[[], Metadata]) -> None:
        self._channel = channel
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_channel" not in self.__dict__:
            # The object is being copied and has no attributes yet.
            raise AttributeError(name)
        attribute = getattr(self._channel, name)
        if name not in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            return attribute

        def multicallable(*args: Any, **kwargs: Any) -> Any:
            inner = attribute(*args, **kwargs)

            def call(request: Any, *, metadata: Any = None, **options: Any) -> Any:
                return inner(request, metadata=(*(metadata or ()), *self._metadata()), **options)

            return call

        return multicallable


def named(channel: _Channel, name: str) -> _Channel:
    """Returns a channel that sends the client's name, and the caller's trace context if it uses OpenTelemetry.

    By the name, the server recognizes streams of the client that submitted a job.
    """
    return cast(_Channel, MetadataChannel(channel, lambda: (("gramophone-client", name), *_trace())))


def _trace() -> Metadata:
    # A program that has not imported OpenTelemetry has no trace.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple((key.lower(), value) for key, value in carrier.items())
