"""How connections are set up."""

from collections.abc import Iterable
from typing import Any

_OPTIONS: dict[str, Any] = {
    # A result of 8192 x 8192 pixels is far beyond gRPC's 4 MB.
    "grpc.max_receive_message_length": 512 << 20,
    "grpc.max_send_message_length": -1,
    # Notices a dead connection within two minutes, and stays well above what the server permits.
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # A server that is back after a restart is found soon: gRPC would wait up to two minutes. What it calls the minimum
    # is how long connecting may take, and has to do for a slow network.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
}


def channel_options(more: Iterable[tuple[str, Any]] = ()) -> list[tuple[str, Any]]:
    """Options of a channel, `more` before our own."""
    return list((_OPTIONS | dict(more)).items())
