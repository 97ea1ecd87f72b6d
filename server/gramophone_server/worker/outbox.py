"""Sends a worker's messages from a background thread, which also encodes previews."""

import contextlib
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
        self._sending = threading.Lock()
        threading.Thread(target=self._run, name="outbox", daemon=True).start()

    def send(self, message: FromWorker) -> None:
        """Queues a message that must not be dropped."""
        self._put(None, lambda: message)

    def send_progress(self, job_id: str, make: Callable[[], Progressed]) -> None:
        """Queues a progress message, which newer progress of the job may replace."""
        self._put(job_id, make)

    def send_last(self, message: FromWorker, seconds: float) -> None:
        """Sends the queued messages that must not be dropped, then a last message; later messages are never sent.

        The calling thread sends them, because the outbox's own thread may wait for a broken device. Any thread may call
        this, also from a function that builds a message.

        Args:
            seconds: maximum time to wait for a message that is being sent; after it, nothing is sent.
        """
        with self._condition:
            kept = [make for replaces, make in self._waiting if replaces is None]
            self._waiting.clear()
        # The lock is never released: nothing may follow the last message.
        if self._sending.acquire(timeout=seconds):
            with contextlib.suppress(OSError):
                for make in kept:
                    self._connection.send(make())
                self._connection.send(message)

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
                    self._condition.wait()
                _, make = self._waiting.popleft()
            message = make()
            try:
                with self._sending:
                    self._connection.send(message)
            except OSError:
                return  # The front has closed the pipe; the receiving thread ends the process.
