"""The health service: SERVING, unless something speaks against it; and what that is."""

import asyncio
import logging
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health

from .errors import Context, shortened

log = logging.getLogger(__name__)

REASON = "gramophone-reason"
"""The key of the trailing metadata of a health check that says why the server is not serving."""
_MOST_OF_REASON = 500


class Readiness(health.HealthServicer):  # type: ignore[misc]
    """Answers health checks for "" and each service alike.

    Args:
        services: names of the services.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        super().__init__()
        self._names = ("", *services)
        self._reasons: dict[str, str] = {}
        self._setting = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._started = False

    @property
    def reasons(self) -> dict[str, str]:
        """What speaks against serving, by its source."""
        return dict(self._reasons)

    async def start(self) -> None:
        """Says SERVING from now on, unless something speaks against it."""
        self._started = True
        await self._tell()

    def set_reason(self, source: str, reason: str | None) -> None:
        """Has `source` speak against serving, or (None) no longer. On the event loop."""
        if reason is None:
            self._reasons.pop(source, None)
        else:
            self._reasons[source] = reason
        task = asyncio.create_task(self._tell())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        """The status of a service, and in the trailing metadata the reason if it is not serving."""
        if self._reasons:
            # Metadata are ASCII.
            reason = "; ".join(self._reasons.values()).encode("ascii", "replace").decode()
            context.set_trailing_metadata(((REASON, shortened(reason, _MOST_OF_REASON).replace("…", "...")),))
        return await super().Check(request, context)

    async def _tell(self) -> None:
        async with self._setting:
            good = self._started and not self._reasons
            status = health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
            for name in self._names:
                await self.set(name, status)
