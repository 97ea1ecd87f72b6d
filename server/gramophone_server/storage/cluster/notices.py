"""Notices between the fronts of a cluster, over the database: NOTIFY, and LISTEN on a connection of its own."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import sqlalchemy as sa

from ..notice import WORK

log = logging.getLogger(__name__)

# The channel of the notices; each database has its own.
_CHANNEL = "gramophone"
# Seconds between attempts to connect: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0


def notify(connection: sa.Connection, notice: str) -> None:
    """Sends a notice to all fronts when the transaction commits."""
    connection.execute(sa.select(sa.func.pg_notify(_CHANNEL, notice)))


class Listener:
    """Calls a function with each notice, on the event loop.

    Notices are lost while the connection is interrupted: they only save the time until the next poll.

    Args:
        url: URL of the database.
        hear: is called with each notice, and with `WORK` after each connection.
    """

    def __init__(self, url: sa.URL, hear: Callable[[str], None]) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._hear = hear
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connects, and again whenever the connection is lost."""
        self._task = asyncio.create_task(self._listen_forever())

    async def stop(self) -> None:
        """Closes the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen_forever(self) -> None:
        # Import on demand: a server without a cluster needs no driver.
        import psycopg

        pause = _FIRST_PAUSE
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, keepalives_idle=5, keepalives_interval=2,
                    keepalives_count=3, application_name="gramophone-listener",
                ) as connection:  # fmt: skip
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    pause = _FIRST_PAUSE
                    self._hear(WORK)
                    async for notice in connection.notifies():
                        self._hear(notice.payload)
            except (psycopg.Error, OSError) as error:
                log.warning("notices of other servers are late, until the database answers: %s", str(error).strip())
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
