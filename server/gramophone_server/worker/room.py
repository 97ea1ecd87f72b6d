"""Asks the front for the memory of jobs beside the other jobs of the device."""

import threading
from collections.abc import Callable

from ..messages.pipe import RoomRequest
from .outbox import Outbox

# Seconds between two requests for the same job: the available memory changes.
_ASK_EVERY = 0.2


class Room:
    """The memory for the jobs of this process; a job waits until the front grants it."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._changed = threading.Condition()
        self._granted: set[str] = set()

    def grant(self, job_id: str) -> None:
        """Lets a job enter; called by the thread that receives messages."""
        with self._changed:
            self._granted.add(job_id)
            self._changed.notify_all()

    def enter(self, job_id: str, needed: int, available: Callable[[], int], stopped: Callable[[], bool]) -> bool:
        """Waits until the front grants a job's memory; the front frees it when the job has ended.

        Args:
            needed: bytes that the job needs.
            available: returns the bytes that there are for all jobs of the device together.
            stopped: returns whether to stop waiting.

        Returns:
            Whether the job may use its memory.
        """
        with self._changed:
            self._granted.discard(job_id)
        while not stopped():
            self._outbox.send(RoomRequest(job_id, needed, available()))
            with self._changed:
                if self._changed.wait_for(lambda: job_id in self._granted, _ASK_EVERY):
                    self._granted.discard(job_id)
                    return True
        return False
