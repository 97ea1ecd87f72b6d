"""Sends a worker's messages, with previews encoded off the step loop."""

import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection

from ..messages.pipe import FromWorker, Progressed


class Outbox:
    """A thread that makes and sends messages in order.

    A message is given as a function that makes it, so that encoding happens here. Progress that has not been begun when
    newer progress comes is dropped: neither a slow encoder nor a slow front holds the optimization up.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[tuple[bool, Callable[[], FromWorker]]] = deque()
        self._condition = threading.Condition()
        self._last: threading.Event | None = None
        threading.Thread(target=self._run, name="outbox", daemon=True).start()

    def send(self, message: FromWorker) -> None:
        """Sends a message that must not be lost."""
        self._put(False, lambda: message)

    def send_progress(self, make: Callable[[], Progressed]) -> None:
        """Makes and sends progress, unless newer progress overtakes it."""
        self._put(True, make)

    def flush(self, seconds: float) -> None:
        """Waits until all is sent, for so many seconds at most."""
        done = threading.Event()
        with self._condition:
            self._last = done
            self._condition.notify()
        done.wait(seconds)

    def _put(self, droppable: bool, make: Callable[[], FromWorker]) -> None:
        with self._condition:
            if droppable and self._waiting and self._waiting[-1][0]:
                self._waiting.pop()
            self._waiting.append((droppable, make))
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
                return  # The front has gone; the receiving thread ends the process.
