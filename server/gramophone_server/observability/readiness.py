"""The health service: reports SERVING, or NOT_SERVING with the reasons.

The servicer of grpcio-health-checking is not used: it drops all watchers of a service when one of them disconnects.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer

from ..rpc.errors import Context, shortened

log = logging.getLogger(__name__)

REASON = "gramophone-reason"
"""Key of the trailing metadata in which a health check says why the server is not serving."""
_MAX_REASON = 500

_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Readiness(HealthServicer):  # type: ignore[misc]
    """Implements the health service with one status for the server ("") and all its services.

    Use it only on the event loop.

    Args:
        services: names of the services.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._names = frozenset(("", *services))
        self._reasons: dict[str, str] = {}
        self._started = self._stopping = False
        # Each change sets this event and replaces it with a new one.
        self._changed = asyncio.Event()

    @property
    def reasons(self) -> dict[str, str]:
        """Why the server is not serving, by the source of the reason."""
        return dict(self._reasons)

    @property
    def serving(self) -> bool:
        """Whether the status is SERVING."""
        return self._started and not self._stopping and not self._reasons

    async def start(self) -> None:
        """Allows the status SERVING from now on."""
        self._started = True
        self._notify()

    async def enter_graceful_shutdown(self) -> None:
        """Keeps the status at NOT_SERVING from now on."""
        self._stopping = True
        self._notify()

    def set_reason(self, source: str, reason: str | None) -> None:
        """Sets the reason of `source` not to serve; None removes it."""
        if self._reasons.get(source) == reason:
            return
        before = self.serving
        if reason is None:
            del self._reasons[source]
        else:
            self._reasons[source] = reason
        if before and not self.serving:
            log.error("not serving: %s", reason)
        elif self.serving and not before:
            log.info("serving again")
        self._notify()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """Returns the status of a service; if it is not serving, the trailing metadata has the reasons."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        if self._reasons:
            context.set_trailing_metadata(((REASON, _in_ascii("; ".join(self._reasons.values()))),))
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Streams the status of a service: the current one, then each change."""
        last = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            last = status
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._names:
            return int(_UNKNOWN)
        return int(_SERVING if self.serving else _NOT_SERVING)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _in_ascii(reason: str) -> str:
    """Returns the reason as one line of printable ASCII, which metadata requires."""
    line = " ".join(reason.split()).encode("ascii", "replace").decode()
    return shortened("".join(c for c in line if c.isprintable()), _MAX_REASON).replace("…", "...")
