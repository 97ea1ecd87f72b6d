"""Access to the database from the event loop: reads and writes in threads, and the pings of those that take long."""

import asyncio
import time
from functools import partial

from gramophone_server.storage import access as module
from gramophone_server.storage.access import Access
from gramophone_server.storage.condition import StorageCondition


async def never() -> None:
    """The recovery of a storage that is never away."""


async def test_calls_that_wait_at_the_same_time_share_their_pings(monkeypatch):
    monkeypatch.setattr(module, "_PING_AFTER", 0.002)
    aborted: list[None] = []
    access = Access(StorageCondition(never), lambda: time.sleep(0.001), lambda: aborted.append(None), 5.0)

    def query(number: int) -> int:
        time.sleep(0.02)
        return number

    async def read(number: int) -> int:
        await asyncio.sleep(number / 1000)
        return await access.read(partial(query, number))

    assert await asyncio.gather(*map(read, range(60))) == list(range(60))
    assert not aborted
    access.close()
