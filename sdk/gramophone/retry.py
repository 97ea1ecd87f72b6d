"""Retries of failed calls: the part that the synchronous and the asynchronous client share.

Every call of the contract is safe to retry: reading changes nothing, canceling and deleting twice have the same effect
as once, and a submission has a request_id by which the server recognizes it.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import grpc

from .brief import Value
from .errors import DeadlineError, from_rpc, is_of_transport, retry_delay

# Bounds of the exponential backoff, in seconds.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
# An attempt of at least this many seconds was connected: connecting takes less (see channel.py).
_CONNECTED_AFTER = 10.0
# Parts of gRPC's messages for calls that this side has canceled.
_CANCELED_HERE = ("Channel closed!", "ancelled by application", "Channel is closed")


class StreamEndedError(grpc.RpcError):
    """A stream ended without an error before its last message; usually because the server is stopping."""

    def __init__(self, details: str = "it ended the stream too early") -> None:
        super().__init__(details)
        self._details = details

    def code(self) -> grpc.StatusCode:
        """Returns UNAVAILABLE, as for a broken connection."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """Returns the message."""
        return self._details

    def trailing_metadata(self) -> tuple[Any, ...]:
        """Returns no metadata."""
        return ()


@dataclass(frozen=True, repr=False)
class RetryPolicy(Value):
    """When and how long a client retries.

    Attributes:
        timeout: maximum seconds for a unary call, including its retries; None for no limit.
        retry_for: seconds to retry while the server cannot be reached; 0 for no retries.
        overload: whether to retry too while the server has no room.
    """

    timeout: float | None = 60.0
    retry_for: float = 60.0
    overload: bool = False


class Attempts:
    """The attempts of one call.

    Args:
        policy: the client's policy.
        target: the server's address, for messages.
        deadline: time, as time.monotonic(), after which there are no more attempts; None for no deadline.
        late_message: message of the DeadlineError after the deadline; None to raise the last attempt's error instead.
    """

    def __init__(
        self, policy: RetryPolicy, target: str, deadline: float | None = None, late_message: str | None = None
    ) -> None:
        self._policy = policy
        self._target = target
        self._deadline = deadline
        self._late_message = late_message
        self._began = time.monotonic()
        self._failing_since: float | None = None
        self._failure: grpc.RpcError | None = None
        self._failures = 0
        self.retried = False

    @property
    def left(self) -> float | None:
        """Seconds left until the deadline, for the next attempt's timeout; None for no deadline."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def progress(self) -> None:
        """Notes that a message was received: the next failure counts as the first."""
        self._failing_since = self._failure = None
        self._failures = 0

    def pause(self, error: grpc.RpcError) -> float:
        """Returns the seconds to wait before the next attempt after one has failed with `error`.

        Raises:
            GramophoneError: the call must not be retried.
        """
        now = time.monotonic()
        if self._late_message and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineError(self._late_message) from error
        if not self._is_transient(error):
            if self._failure is not None and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                # The deadline ended the last attempt; the error of the attempt before it says more.
                error = self._failure
            raise from_rpc(error, self._target) from error
        if now - self._began > _CONNECTED_AFTER:
            self.progress()
        if self._failing_since is None:
            self._failing_since = now
        self._failure = error
        self._failures += 1
        full = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        end = self._failing_since + self._policy.retry_for
        # Full jitter: the pause starts at 0, so that the clients of a restarted server do not all reconnect at once.
        pause = random.uniform(0, min(_FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE))
        pause += retry_delay(error) or 0
        if self._deadline is not None and min(end, now + pause) >= self._deadline:
            end = self._deadline
            if self._late_message and now >= end:
                raise DeadlineError(self._late_message) from error
        if now >= end or (full and now + pause > end):
            raise from_rpc(error, self._target) from error
        self.retried = True
        pause = min(pause, end - now)
        self._began = now + pause
        return pause

    def _is_transient(self, error: grpc.RpcError) -> bool:
        """Whether the call can succeed later."""
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                # Certificates that do not match now will not match later.
                return "handshake" not in (error.details() or "").lower()
            case grpc.StatusCode.CANCELLED:
                # A server that stops during a call, or a proxy, reports CANCELLED, too.
                return not any(words in (error.details() or "") for words in _CANCELED_HERE)
            case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
                return is_of_transport(error)
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return self._policy.overload
        return False
