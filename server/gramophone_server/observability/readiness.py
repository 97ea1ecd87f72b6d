"""The health service: SERVING, unless something speaks against it; and what that is.

That of grpcio-health-checking forgets all watchers of a service when one of them leaves.
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
"""The key of the trailing metadata of a health check that says why the server is not serving."""
_MOST_OF_REASON = 500

_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Readiness(HealthServicer):  # type: ignore[misc]
    """Answers health checks for "" and each service alike. To be used on the event loop.

    Args:
        services: names of the services.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._names = frozenset(("", *services))
        self._reasons: dict[str, str] = {}
        self._started = self._stopping = False
        # Set, and replaced by the next, at each change.
        self._changed = asyncio.Event()

    @property
    def reasons(self) -> dict[str, str]:
        """What speaks against serving, by its source."""
        return dict(self._reasons)

    @property
    def serving(self) -> bool:
        """Whether health says SERVING."""
        return self._started and not self._stopping and not self._reasons

    async def start(self) -> None:
        """Says SERVING from now on, unless something speaks against it."""
        self._started = True
        self._tell()

    async def enter_graceful_shutdown(self) -> None:
        """Says NOT_SERVING from now on, whatever comes."""
        self._stopping = True
        self._tell()

    def set_reason(self, source: str, reason: str | None) -> None:
        """Has `source` speak against serving, or (None) no longer."""
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
        self._tell()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """The status of a service, and in the trailing metadata the reason if it is not serving."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        if self._reasons:
            context.set_trailing_metadata(((REASON, _in_ascii("; ".join(self._reasons.values()))),))
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a service, and each that it has later."""
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

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _in_ascii(reason: str) -> str:
    """One line of what metadata may hold."""
    line = " ".join(reason.split()).encode("ascii", "replace").decode()
    return shortened("".join(c for c in line if c.isprintable()), _MOST_OF_REASON).replace("…", "...")
