"""Bounds on connections, so that descriptors are left for what the server keeps on its disk."""

import logging
import sys
from typing import Any

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

# Descriptors for the database, files, workers and decoders.
_RESERVE = 256
# Seconds in which a new connection has to say what it is.
_HANDSHAKE = 5
_STREAMS = 1024


def raise_descriptor_limit() -> None:
    """Lets this process, and those that it starts, have as many descriptors as the system allows."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.warning("the limit of %d open files cannot be raised: %s", soft, error)


def most_connections(wanted: int) -> int:
    """How many connections there may be, such that descriptors are left for storage."""
    if sys.platform == "win32":
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, soft - min(_RESERVE, soft // 2)))


def connection_options(wanted: int, idle: float) -> list[tuple[str, Any]]:
    """Options of gRPC: so many connections, none that is silent, and a bound on what each has open.

    Args:
        idle: seconds after which a connection without calls is closed; a client that calls again connects again.
    """
    return [
        ("grpc.max_allowed_incoming_connections", most_connections(wanted)),
        ("grpc.server_handshake_timeout_ms", 1000 * _HANDSHAKE),
        ("grpc.max_connection_idle_ms", round(1000 * idle)),
        ("grpc.max_concurrent_streams", _STREAMS),
        # Else the window of calls that nobody reads yet would grow with the speed of the network.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_metadata_size", 16 << 10),
    ]
