"""Keeps a worker's messages until they have been delivered."""

import threading
from collections.abc import Hashable

# Bytes of messages that are delivered together at most, but always at least one message.
_BATCH = 8 << 20


class Mailbox:
    """Numbered messages, for a reader that can repeat a call whose answer was lost.

    A message with a key replaces an older one with this key that has not been confirmed, so that a slow reader does not
    let the mailbox grow.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Hashable, bytes]] = {}
        self._number = 0
        self._ending: str | None = None
        self._condition = threading.Condition()

    def put(self, key: Hashable, message: bytes) -> None:
        """Adds a message; `key` is None for a message that must not be replaced."""
        with self._condition:
            if key is not None:
                for number in [number for number, (other, _) in self._waiting.items() if other == key]:
                    del self._waiting[number]
            self._number += 1
            self._waiting[self._number] = key, message
            self._condition.notify_all()

    def close(self, ending: str) -> None:
        """Says that no message follows, and why."""
        with self._condition:
            self._ending = ending
            self._condition.notify_all()

    def take(self, after: int, seconds: float) -> tuple[list[tuple[int, bytes]], str | None]:
        """Returns messages with their numbers, and how the worker ended if no message follows these.

        The same call returns the same messages again, except replaced ones.

        Args:
            after: confirms the messages up to this number, which are dropped.
            seconds: maximum time to wait for a message.
        """
        with self._condition:
            for number in [number for number in self._waiting if number <= after]:
                del self._waiting[number]
            self._condition.wait_for(lambda: self._waiting or self._ending is not None, seconds)
            size, batch = 0, list[tuple[int, bytes]]()
            for number, (_, message) in self._waiting.items():
                size += len(message)
                if batch and size > _BATCH:
                    return batch, None
                batch.append((number, message))
            return batch, self._ending
