"""Sends a worker's messages from a background thread, which also encodes previews."""

import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection

from ..messages.pipe import FromWorker, Progressed


class Outbox:
    """A thread that builds and sends messages in order.

    Each message is given as a function that builds it, so that encoding happens in this thread. A progress message that
    is still queued is replaced by a newer one of the same job: neither a slow encoder nor a slow front delays the
    optimization.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[tuple[str | None, Callable[[], FromWorker]]] = deque()
        self._condition = threading.Condition()
        self._last: threading.Event | None = None
        threading.Thread(target=self._run, name="outbox", daemon=True).start()

    def send(self, message: FromWorker) -> None:
        """Queues a message that must not be dropped."""
        self._put(None, lambda: message)

    def send_progress(self, job_id: str, make: Callable[[], Progressed]) -> None:
        """Queues a progress message, which newer progress of the job may replace."""
        self._put(job_id, make)

    def flush(self, seconds: float) -> None:
        """Waits until all queued messages are sent, for at most the given number of seconds."""
        done = threading.Event()
        with self._condition:
            self._last = done
            self._condition.notify()
        done.wait(seconds)

    def _put(self, replaces: str | None, make: Callable[[], FromWorker]) -> None:
        """Queues a message; `replaces` is the id of the job whose queued progress it replaces."""
        with self._condition:
            if replaces is not None:
                self._waiting = deque(queued for queued in self._waiting if queued[0] != replaces)
            self._waiting.append((replaces, make))
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._waiting:
                    if self._last is not None:
                        self._last.set()
                    self._condition.wait()
                _, make = self._waiting.popleft()
            try:
                self._connection.send(make())
            except OSError:
                return  # The front has closed the pipe; the receiving thread ends the process.
