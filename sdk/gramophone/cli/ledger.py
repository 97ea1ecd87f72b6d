"""The record of the results in a folder, by which a command that is run again skips what it has painted."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import Style
from ..files import atomic_file
from .files import Picture

_NAME = ".gramophone.json"
_VERSION = 1


class Ledger:
    """The results in a folder, each with the key of its job; see `key_of`.

    The record is the file `.gramophone.json`. Without it, results are fetched again from the server, which knows the
    jobs by their keys as long as it keeps them.

    Args:
        folder: the folder of the results; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder.expanduser() / _NAME
        self._keys = self._read()

    def has(self, path: Path, key: str) -> bool:
        """Returns whether a file is the result of the job with this key."""
        return self._keys.get(path.name) == key and path.expanduser().is_file()

    def add(self, path: Path, key: str) -> None:
        """Records a saved result; a record that cannot be written is given up, because only time depends on it."""
        self._keys[path.name] = key
        with contextlib.suppress(OSError), atomic_file(self._path) as file:
            file.write(json.dumps({"version": _VERSION, "results": self._keys}, indent=1).encode())

    def _read(self) -> dict[str, str]:
        try:
            record = json.loads(self._path.read_text())
            results = record["results"] if record["version"] == _VERSION else {}
            return {str(name): str(key) for name, key in results.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def key_of(*parts: Any) -> str:
    """Returns a key that is equal for two jobs if their pictures have the same bytes and their options are equal.

    Args:
        parts: options, styles, and pictures as files (Path) or bytes.
    """
    return hashlib.sha256(json.dumps([_json(part) for part in parts], sort_keys=True).encode()).hexdigest()[:40]


def file_of(picture: Picture) -> Path | bytes:
    """Returns a picture as `key_of` takes it."""
    return Path(picture).expanduser() if isinstance(picture, str) else picture


def _json(part: Any) -> Any:
    match part:
        case Path():
            return hashlib.sha256(part.read_bytes()).hexdigest()
        case bytes():
            return hashlib.sha256(part).hexdigest()
        case Style():
            pictures = {name: getattr(part, name) for name in ("image", "mask", "source_mask", "source_map")}
            return [part.weight, part.scale, *(_json(None if p is None else file_of(p)) for p in pictures.values())]
        case Mapping():
            return {str(name): _json(value) for name, value in part.items()}
        case list() | tuple():
            return [_json(item) for item in part]
        case _:
            return part if isinstance(part, str | int | float | bool | None) else repr(part)
