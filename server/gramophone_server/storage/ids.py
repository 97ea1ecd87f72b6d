"""Ids of jobs: they sort by age, whatever the clock does, and cannot be guessed."""

import re
import secrets
import time

# Microseconds since the epoch, then 64 random bits.
_ID = re.compile(r"([0-9a-f]{14})[0-9a-f]{16}")
# A clock is not further ahead than this: microseconds of 100 years.
_AHEAD = 100 * 366 * 24 * 3600 * 10**6


def is_job_id(text: str) -> bool:
    """Whether a job could have this id."""
    return _ID.fullmatch(text) is not None


class JobIds:
    """Makes ids, each after all before it: also when the clock is put back."""

    def __init__(self) -> None:
        self._latest = 0

    def follow(self, job_id: str | None) -> None:
        """Has the next ids come after that of a job."""
        if job_id is not None and (match := _ID.fullmatch(job_id)) and int(match[1], 16) < _now() + _AHEAD:
            self._latest = max(self._latest, int(match[1], 16))

    def next(self) -> str:
        """A new id."""
        self._latest = max(self._latest + 1, _now())
        return f"{self._latest:014x}{secrets.token_hex(8)}"


def _now() -> int:
    return time.time_ns() // 1000
