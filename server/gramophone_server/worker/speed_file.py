"""Speeds of devices in a file of the user's cache folder. Any content of the file is safe."""

import json
import os
from pathlib import Path

from ..files import atomic_file, read_file

_MOST_BYTES = 1 << 20
# Entries that are kept, the latest ones: each model, precision, size and version has its own.
_MOST_ENTRIES = 256
# Operations per second that a device can have: a value out of this range is damage.
_LEAST, _MOST = 1e6, 1e18


class SpeedFile:
    """Operations per second by name, in gramophone/speeds.json of $XDG_CACHE_HOME or ~/.cache."""

    def __init__(self) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._path = cache / "gramophone" / "speeds.json"

    def read(self) -> dict[str, float]:
        """Returns all entries with a possible speed; none if the file is missing, damaged or too large."""
        try:
            known = json.loads(read_file(self._path, _MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        entries = known.items() if isinstance(known, dict) else ()
        return {key: speed for key, speed in entries if is_possible(speed)}

    def add(self, key: str, speed: float) -> None:
        """Writes an entry as the latest one; does nothing if the file cannot be written."""
        known = self.read()
        known.pop(key, None)
        known[key] = speed
        latest = dict(list(known.items())[-_MOST_ENTRIES:])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._path) as file:
                file.write(f"{json.dumps(latest, indent=1)}\n".encode())
        except OSError:
            pass  # The next worker then measures again.


def is_possible(speed: object) -> bool:
    """Returns whether a value is a number of operations per second that a device can have."""
    return isinstance(speed, float) and _LEAST <= speed <= _MOST
