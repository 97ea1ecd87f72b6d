"""The queue of a cluster, in the database: its order and its limits hold over all fronts."""

import contextlib
from collections.abc import Callable, Collection

from ..storage.cluster.leases import QueueRules
from ..storage.cluster.store import ClusterStore
from ..storage.errors import StorageError
from ..storage.job import Job
from .queue import HALF_LIFE


class SharedQueue:
    """The waiting jobs of all fronts. Its order is that of `FairQueue`.

    The numbers of waiting jobs are those of the last `refresh`.

    Args:
        max_running: maximum running jobs of one client at all fronts; None for no limit.
    """

    def __init__(self, store: ClusterStore, max_running: int | None = None) -> None:
        self._store = store
        self._rules = QueueRules(max_running, HALF_LIFE)
        self._waiting: dict[str, int] = {}
        self._charged: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(self._waiting.values())

    def count(self, owner: str) -> int:
        """Returns the number of waiting jobs of a client."""
        return self._waiting.get(owner, 0)

    async def refresh(self) -> None:
        """Counts the waiting jobs again; does nothing if the storage cannot be used."""
        with contextlib.suppress(StorageError):
            self._waiting = await self._store.waiting()

    def push(self, job: Job) -> None:
        """Does nothing: the database has the job."""

    def discard(self, job: Job) -> bool:
        """Returns False: a waiting job is not here."""
        return False

    def drain(self) -> list[Job]:
        """Returns no jobs: other fronts run those that wait."""
        return []

    async def next(self, accepts: Callable[[Job], bool], seconds: float, running: Collection[str]) -> Job | None:
        """Leases and returns the next job, and charges its client; see `JobQueue.next`.

        Returns None, too, if the storage cannot be used.
        """
        with contextlib.suppress(StorageError):
            await self.refresh()
            while len(self):
                wanted = await self._store.peek(self._rules, running)
                if wanted is None or not accepts(wanted):
                    return None
                job = await self._store.take(self._rules, running, seconds, wanted.id)
                if job is not None:
                    self._charged[job.id] = seconds
                    return job
                # Another front was faster.
                await self.refresh()
        return None

    async def settle(self, job: Job, seconds: float) -> None:
        """Corrects the device time that `next` charged to the client of a job."""
        await self._store.settle(job.owner, seconds - self._charged.pop(job.id, 0.0), self._rules)

    def done(self, job: Job) -> None:
        """Does nothing: the database counts the running jobs."""
