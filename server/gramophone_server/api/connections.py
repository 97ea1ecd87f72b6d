"""Limits the number of connections, so that file descriptors are left for the database and files."""

import logging
import sys
from typing import Any

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

# File descriptors reserved for the database, files, workers and decoders.
_RESERVE = 256
# Seconds a new connection has to finish the TLS or HTTP/2 handshake.
_HANDSHAKE = 5
# Calls at once on one connection.
_STREAMS = 1024


def raise_descriptor_limit() -> None:
    """Raises the limit on file descriptors to the system's maximum, for this process and its children."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.warning("the limit of %d open files cannot be raised: %s", soft, error)


def max_connections(wanted: int, *, shares: int = 1) -> int:
    """Returns how many connections to accept: `wanted`, or fewer if storage would run out of file descriptors.

    Args:
        shares: number of ports that share the descriptors.
    """
    if sys.platform == "win32":
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, (soft - min(_RESERVE, soft // 2)) // shares))


def connection_options(limit: int, idle: float) -> list[tuple[str, Any]]:
    """Returns gRPC options that limit connections, the time they may be idle, and calls per connection.

    Args:
        limit: maximum number of connections.
        idle: seconds after which a connection without calls is closed; the client reconnects at its next call.
    """
    return [
        ("grpc.max_allowed_incoming_connections", limit),
        ("grpc.server_handshake_timeout_ms", 1000 * _HANDSHAKE),
        ("grpc.max_connection_idle_ms", round(1000 * idle)),
        ("grpc.max_concurrent_streams", _STREAMS),
        # With the probe, the flow-control window of calls that are not read yet grows with the network's bandwidth.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_metadata_size", 16 << 10),
    ]
