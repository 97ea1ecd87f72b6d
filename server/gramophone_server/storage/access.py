"""Runs database and file operations in threads, with retries and timeouts, so that the event loop never blocks."""

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
# Seconds that an operation may take before the database is pinged.
_PING_AFTER = 0.4
_READERS = 4
# A local file system that is busy with writes may answer late.
LOCAL_PING_TIMEOUT, REMOTE_PING_TIMEOUT = 5.0, 0.4
"""Seconds that a ping may take: of a database in a local file, and of one on the network."""


class Access:
    """Runs reads and writes; detects that the storage is unavailable, and from then on fails at once.

    Args:
        condition: whether the storage can be used.
        ping: a quick query, which succeeds if the database answers at all.
        abort: ends operations that wait for a database that does not answer.
        ping_timeout: seconds that the ping may take.
    """

    def __init__(
        self, condition: StorageCondition, ping: Callable[[], None], abort: Callable[[], None], ping_timeout: float
    ) -> None:
        self._condition = condition
        self._ping = ping
        self._abort = abort
        self._ping_timeout = ping_timeout
        # One thread writes, to keep the order of the writes.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._pingers = ThreadPoolExecutor(1, thread_name_prefix="ping")
        self._closed = False
        self._pinging: asyncio.Future[None] | None = None

    async def write(self, write: Callable[[], _T], in_doubt: Callable[[], None] | None = None) -> _T:
        """Returns the result of `write`, which is retried for `PATIENCE` seconds while the storage is unavailable.

        Args:
            in_doubt: is called in the writer thread when an error is raised although the data may have been written.

        Raises:
            StorageFullError: the disk or database is full.
            StorageAwayError: the storage is unavailable.
            StorageError: the write failed for another reason.
        """
        return await self._retrying(self._writer, write, in_doubt, "written", PATIENCE)

    async def write_once(self, write: Callable[[], _T]) -> _T:
        """Returns the result of `write`, without retries: for callers that retry later by themselves.

        Raises:
            StorageError: see `write`.
        """
        return await self._retrying(self._writer, write, None, "written", 0.0)

    async def read(self, read: Callable[[], _T], patience: float = PATIENCE) -> _T:
        """Returns the result of `read`, retried while the storage is unavailable.

        Args:
            patience: seconds to retry.

        Raises:
            StorageError: see `write`.
        """
        return await self._retrying(self._readers, read, None, "read", patience)

    async def force(self, write: Callable[[], _T]) -> _T:
        """Returns the result of `write`, tried once, even while the storage counts as unavailable.

        Raises:
            OSError, sqlalchemy.exc.SQLAlchemyError: the write failed, or the storage does not answer.
        """
        return await self._run(self._writer, write, None, forced=True)

    def close(self, patience: float = 2.0) -> None:
        """Waits up to `patience` seconds for queued writes, then stops the threads. Blocks."""
        if self._closed:
            return
        self._closed = True
        last = self._writer.submit(lambda: None)
        with contextlib.suppress(TimeoutError):
            last.result(patience)
        if not last.done():
            self._abort()
        for pool in (self._writer, self._readers, self._pingers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _retrying(
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
                    raise StorageError(f"The server's storage cannot be {done}: {reason_of(error)}.") from error
                if trouble.full:
                    raise StorageFullError(trouble) from error
                self._condition.report(trouble)

    async def _run(
        self, pool: ThreadPoolExecutor, work: Callable[[], _T], in_doubt: Callable[[], None] | None, *, forced: bool
    ) -> _T:
        def run() -> _T:
            if not forced:
                # The storage may have become unavailable while this operation waited for its thread.
                self._condition.check()
            try:
                return work()
            except BaseException:
                if in_doubt is not None:
                    in_doubt()
                raise

        begun = pool.submit(run)
        waiting = asyncio.wrap_future(begun)
        # Retrieve the exception in any case: the caller may have been canceled, and asyncio would log it.
        waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
        while not (await asyncio.wait([waiting], timeout=_PING_AFTER))[0]:
            if not await self._answers() and not waiting.done():
                waiting.cancel()
                begun.add_done_callback(lambda future: _report_late_success(future, in_doubt))
                await asyncio.to_thread(self._abort)
                raise TimeoutError("the database does not answer")
        return waiting.result()

    async def _answers(self) -> bool:
        """Whether the database answers a ping."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.get_running_loop().run_in_executor(self._pingers, self._ping)
            self._pinging.add_done_callback(lambda future: future.cancelled() or future.exception())
        # Another call may begin the next ping before this one goes on.
        pinging = self._pinging
        done, _ = await asyncio.wait([pinging], timeout=self._ping_timeout)
        return bool(done) and pinging.exception() is None


def _report_late_success(future: "Future[_T]", in_doubt: Callable[[], None] | None) -> None:
    """Calls `in_doubt` if a write succeeded after its caller got an error."""
    if in_doubt is not None and not future.cancelled() and future.exception() is None:
        in_doubt()
