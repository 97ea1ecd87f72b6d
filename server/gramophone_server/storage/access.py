"""How the store is used: in threads, so that the event loop never waits, and with patience that ends."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from .condition import PATIENCE, StorageCondition
from .errors import StorageError, StorageFullError, reason_of, trouble_of

log = logging.getLogger(__name__)

_T = TypeVar("_T")
# Seconds after which it is asked whether the database answers at all, and for which its answer is waited for.
_SUSPICION = 0.4
_READERS = 4
# A file system that is busy writing answers late, and is there all the same.
LOCAL_ANSWER, REMOTE_ANSWER = 5.0, 0.4
"""Seconds that a database may take to answer at all: one in a file, and one behind a network."""


class Access:
    """Runs what reads and what writes; finds out when the storage is away, and says so at once from then on.

    Args:
        condition: of the storage.
        look: a quick look at the database, which a slow one has time for.
        cut: ends what waits for a database that does not answer.
        answer: seconds that the look may take.
    """

    def __init__(
        self, condition: StorageCondition, look: Callable[[], None], cut: Callable[[], None], answer: float
    ) -> None:
        self._condition = condition
        self._look = look
        self._cut = cut
        self._answer = answer
        # One thread writes, so that things are kept in the order in which they happened.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._lookers = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._closed = False
        self._looking: asyncio.Future[None] | None = None

    async def write(self, write: Callable[[], _T], in_doubt: Callable[[], None] | None = None) -> _T:
        """What `write` gives; it is called again if the storage was away for a moment only.

        Args:
            in_doubt: is called, in the thread that writes, when it may have been written although an error is raised.

        Raises:
            StorageFullError: there is no room.
            StorageAwayError: the storage is away.
            StorageError: it cannot be written for another reason.
        """
        return await self._patiently(self._writer, write, in_doubt, "written", PATIENCE)

    async def write_once(self, write: Callable[[], _T]) -> _T:
        """What `write` gives, without patience: for what waits elsewhere.

        Raises:
            StorageError: as of `write`.
        """
        return await self._patiently(self._writer, write, None, "written", 0.0)

    async def read(self, read: Callable[[], _T], patience: float = PATIENCE) -> _T:
        """What `read` gives, likewise.

        Args:
            patience: seconds for which a storage that is away is waited for.

        Raises:
            StorageError: as of `write`.
        """
        return await self._patiently(self._readers, read, None, "read", patience)

    async def force(self, write: Callable[[], _T]) -> _T:
        """What `write` gives, tried once, even while the storage is away.

        Raises:
            OSError, sqlalchemy.exc.SQLAlchemyError: as the write does, or the storage does not answer.
        """
        return await self._run(self._writer, write, None, forced=True)

    def close(self, patience: float = 2.0) -> None:
        """Waits for what is being written, for so long at most, and ends the threads. Blocks."""
        if self._closed:
            return
        self._closed = True
        last = self._writer.submit(lambda: None)
        with contextlib.suppress(TimeoutError):
            last.result(patience)
        if not last.done():
            self._cut()
        for pool in (self._writer, self._readers, self._lookers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _patiently(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[[], _T],
        in_doubt: Callable[[], None] | None,
        done: str,
        patience: float,
    ) -> _T:
        deadline = time.monotonic() + patience
        while True:
            await self._condition.good_soon(deadline)
            try:
                return await self._run(pool, work, in_doubt, forced=False)
            except (sa.exc.SQLAlchemyError, OSError, StorageError) as error:
                if (trouble := trouble_of(error)) is None:
                    log.exception("the storage cannot be %s", done)
                    raise StorageError(f"It cannot be {done}: {reason_of(error)}.") from error
                if trouble.full:
                    raise StorageFullError(trouble) from error
                self._condition.report(trouble)

    async def _run(
        self, pool: ThreadPoolExecutor, work: Callable[[], _T], in_doubt: Callable[[], None] | None, *, forced: bool
    ) -> _T:
        def run() -> _T:
            if not forced:
                # Found out while this waited for its turn.
                self._condition.check()
            try:
                return work()
            except BaseException:
                if in_doubt is not None:
                    in_doubt()
                raise

        begun = pool.submit(run)
        waiting = asyncio.wrap_future(begun)
        # Whoever waited may have left.
        waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
        while not (await asyncio.wait([waiting], timeout=_SUSPICION))[0]:
            if not await self._answers() and not waiting.done():
                waiting.cancel()
                begun.add_done_callback(lambda future: _doubt(future, in_doubt))
                await asyncio.to_thread(self._cut)
                raise TimeoutError("the database does not answer")
        return waiting.result()

    async def _answers(self) -> bool:
        """Whether the database answers at all, be it slow."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(self._lookers, self._look)
            self._looking.add_done_callback(lambda future: future.cancelled() or future.exception())
        done, _ = await asyncio.wait([self._looking], timeout=self._answer)
        return bool(done) and self._looking.exception() is None


def _doubt(future: "Future[_T]", in_doubt: Callable[[], None] | None) -> None:
    """Has doubted what was written in the end, after its caller was told that it was not."""
    if in_doubt is not None and not future.cancelled() and future.exception() is None:
        in_doubt()
