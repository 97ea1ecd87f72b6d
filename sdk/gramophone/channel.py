"""How connections are set up."""

from typing import Any

OPTIONS: list[tuple[str, Any]] = [
    # A result of 8192 x 8192 pixels is far beyond gRPC's 4 MB.
    ("grpc.max_receive_message_length", 512 << 20),
    ("grpc.max_send_message_length", -1),
    # Notices a dead connection within two minutes, and stays well above what the server permits.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]

CALL_TIMEOUT = 60.0
"""Seconds that a call which is not a stream may take."""
REATTACH_ATTEMPTS = 5
"""How often a broken stream is picked up again before giving up."""


def backoff(attempt: int) -> float:
    """Seconds to wait before attempt number `attempt`, from 1, at picking a stream up."""
    return min(0.2 * 2.0 ** (attempt - 1), 5.0)
