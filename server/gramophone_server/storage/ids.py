"""Job ids, which sort by age even if the system clock is set back, and cannot be guessed."""

import re
import secrets
import time

# Microseconds since the epoch, then 64 random bits.
_ID = re.compile(r"([0-9a-f]{14})[0-9a-f]{16}")
# 100 years in microseconds: an id further in the future is damaged and ignored.
_MAX_AHEAD = 100 * 366 * 24 * 3600 * 10**6


def is_job_id(text: str) -> bool:
    """Whether the text has the form of a job id."""
    return _ID.fullmatch(text) is not None


class JobIds:
    """Makes job ids, each greater than all earlier ones."""

    def __init__(self) -> None:
        self._latest = 0

    def follow(self, job_id: str | None) -> None:
        """Makes the next ids greater than the id of an existing job."""
        if job_id is not None and (match := _ID.fullmatch(job_id)) and int(match[1], 16) < _now() + _MAX_AHEAD:
            self._latest = max(self._latest, int(match[1], 16))

    def next(self) -> str:
        """Returns a new id."""
        self._latest = max(self._latest + 1, _now())
        return f"{self._latest:014x}{secrets.token_hex(8)}"


def _now() -> int:
    return time.time_ns() // 1000
