"""When a call that failed is made again: what the synchronous and the asynchronous client share.

Every call of the contract may be sent twice: reading changes nothing, canceling and deleting find their work done, and
a submission carries a request_id by which the server knows it again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from .brief import Value
from .errors import DeadlineError, from_rpc, is_of_transport, retry_delay

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
# A try that lasted longer than connecting may take (channel.py) was connected.
_LASTING = 10.0


# What gRPC says of the calls that its own side cancels.
_CANCELLED_HERE = ("Channel closed!", "ancelled by application", "Channel is closed")


class StreamEndedError(grpc.RpcError):
    """A stream ended, without an error, before what it is for had come: the server is leaving, as a rule."""

    def __init__(self, details: str = "it ended the stream too early") -> None:
        super().__init__(details)
        self._details = details

    def code(self) -> grpc.StatusCode:
        """As of a connection that broke."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """What happened."""
        return self._details

    def trailing_metadata(self) -> tuple[Any, ...]:
        """None."""
        return ()


@dataclass(frozen=True, repr=False)
class RetryPolicy(Value):
    """How patient a client is.

    Attributes:
        timeout: seconds that a call which is not a stream may take, with all its tries; None for as long as it takes.
        retry_for: seconds for which a server that is away is tried again; 0 for a single try.
        overload: whether a server that has no room is tried again too.
    """

    timeout: float | None = 60.0
    retry_for: float = 60.0
    overload: bool = False


_patience: ContextVar[float | None] = ContextVar("patience", default=None)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Has calls of the block ask a server without room again for so long, whatever the client's policy."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


class Attempts:
    """The tries of one call.

    Args:
        target: the server's address, for messages.
        deadline: time.monotonic() after which there are no more; None for no such time.
        late: what to say when it has passed; None to say what the last try failed of.
    """

    def __init__(
        self, policy: RetryPolicy, target: str, deadline: float | None = None, late: str | None = None
    ) -> None:
        self._policy = policy
        self._patience = _patience.get()
        self._target = target
        self._deadline = deadline
        self._late = late
        self._began = time.monotonic()
        self._failing_since: float | None = None
        self._failure: grpc.RpcError | None = None
        self._failures = 0
        self.retried = False

    @property
    def left(self) -> float | None:
        """Seconds that the next try may take; None for as long as it takes."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def progress(self) -> None:
        """Something came: the next failure is a first one."""
        self._failing_since = self._failure = None
        self._failures = 0

    def pause(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next try, now that one has failed.

        Raises:
            GramophoneError: there is no next try.
        """
        now = time.monotonic()
        if self._late and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineError(self._late) from error
        if not self._passes(error):
            if self._failure is not None and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                # The last try was cut short; what the tries before it failed of says more.
                error = self._failure
            raise from_rpc(error, self._target) from error
        if now - self._began > _LASTING:
            self.progress()
        if self._failing_since is None:
            self._failing_since = now
        self._failure = error
        self._failures += 1
        full = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        end = self._failing_since + (self._patience if full and self._patience else self._policy.retry_for)
        # The whole of the pause is random, so that the clients of a server that comes back do not come all at once.
        pause = random.uniform(0, min(_FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE))
        pause += retry_delay(error) or 0
        if self._deadline is not None and min(end, now + pause) >= self._deadline:
            end = self._deadline
            if self._late and now >= end:
                raise DeadlineError(self._late) from error
        if now >= end or (full and now + pause > end):
            raise from_rpc(error, self._target) from error
        self.retried = True
        pause = min(pause, end - now)
        self._began = now + pause
        return pause

    def _passes(self, error: grpc.RpcError) -> bool:
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                # Certificates that do not fit will not fit later.
                return "handshake" not in (error.details() or "").lower()
            case grpc.StatusCode.CANCELLED:
                # So says a server that stops in the middle of a call, or a proxy; this side has other words.
                return not any(words in (error.details() or "") for words in _CANCELLED_HERE)
            case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
                return is_of_transport(error)
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return self._policy.overload or self._patience is not None
        return False
