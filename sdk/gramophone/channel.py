"""How the channel to a server is set up, for the blocking and the asyncio client alike."""

from collections.abc import Sequence

DEFAULT_TARGET = "localhost:50051"

# Seconds for a call that answers at once; streams have no such bound, for a job may take as long as it takes.
DEFAULT_TIMEOUT = 30.0

# Seconds to wait before each attempt to watch a job again after its connection broke.
REATTACH_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0)

_MAX_MESSAGE_BYTES = 256 << 20

_LOOPBACK = ("localhost", "127.", "[::1]", "ipv4:127.", "ipv6:[::1]", "dns:localhost", "dns:///localhost", "unix:")


def channel_options(target: str) -> Sequence[tuple[str, int]]:
    """Channel arguments for a server at `target`."""
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        # A server that froze or a network that is gone ends a stream within 80 s; without a call there are no pings.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # After a lost connection try again soon: a job's watcher waits for it.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.min_reconnect_backoff_ms", 10_000),
    ]
    if target.startswith(_LOOPBACK):
        # A proxy set in the environment is for other machines.
        options.append(("grpc.enable_http_proxy", 0))
    return options
