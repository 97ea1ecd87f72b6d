"""How connections are set up, and what is sent along with each call."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

_Channel = TypeVar("_Channel")
Metadata = tuple[tuple[str, str], ...]

_OPTIONS: dict[str, Any] = {
    "grpc.max_send_message_length": -1,
    # Notices a dead connection within two minutes, and stays well above what the server permits.
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # Sooner than a server closes connections without calls; the next call connects again.
    "grpc.client_idle_timeout_ms": 10_000,
    # A server that is back after a restart is found soon: gRPC would wait up to two minutes. What it calls the minimum
    # is how long connecting may take, and has to do for a slow network.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
}


def channel_options(more: Iterable[tuple[str, Any]] = ()) -> list[tuple[str, Any]]:
    """Options of a channel, `more` before our own."""
    return list((_OPTIONS | dict(more)).items())


class MetadataChannel:
    """A channel, of either twin, that sends along with each call what `metadata` returns at that moment."""

    def __init__(self, channel: Any, metadata: Callable[[], Metadata]) -> None:
        self._channel = channel
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_channel" not in self.__dict__:
            # Asked of one that is being copied.
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
    """The channel, which sends the client's name along, and the trace of whoever calls if they use OpenTelemetry.

    By the name a server knows that a stream is of the client that submitted its job.
    """
    return cast(_Channel, MetadataChannel(channel, lambda: (("gramophone-client", name), *_trace())))


def _trace() -> Metadata:
    # A program that has not imported it has no trace.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple((key.lower(), value) for key, value in carrier.items())
