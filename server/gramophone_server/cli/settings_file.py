"""Reads settings from a TOML file with one top-level key per setting."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files import read_file
from ..settings import Entry

_MAX_BYTES = 1 << 20


class SettingsFileError(ValueError):
    """The file cannot be used; the message says which key is wrong and what to write."""


def read_settings_file(path: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Reads the values of a file by setting name. Types are checked, bounds are not.

    Relative paths are resolved against the folder of the file.

    Raises:
        SettingsFileError: the file cannot be read, is not TOML, or has a key that is unknown or of the wrong type.
    """
    # Import on demand: it costs time at the start, and most servers have no file.
    import tomllib

    try:
        values = tomllib.loads(read_file(path, _MAX_BYTES).decode())
    except OSError as error:
        raise SettingsFileError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsFileError(f"{path} is not a TOML file: it is not text in UTF-8") from error
    # Besides TOMLDecodeError: integers of thousands of digits, and tables nested thousands deep.
    except (ValueError, RecursionError) as error:
        raise SettingsFileError(f"{path} is not a TOML file: {error}") from error
    known = {entry.key: entry for entry in entries if entry.key is not None}
    for key, value in values.items():
        if key not in known:
            raise SettingsFileError(f"{key!r} in {path} {_unknown(key, value, known.values())}")
    return {key: _typed(known[key], value, path) for key, value in values.items()}


def _unknown(key: str, value: object, known: Iterable[Entry]) -> str:
    """Returns the error for an unknown key, with the most similar setting."""
    names = {name: entry.name for entry in known for name in (entry.name, entry.flag[2:].replace("-", "_"))}
    plain = key.strip().strip("-").lower().replace("-", "_")
    nearest = difflib.get_close_matches(plain, names, n=1)
    if nearest:
        return f"is not a setting; write {names[nearest[0]]}"
    if isinstance(value, dict):
        return "is a table, but settings are keys at the top level; write its keys there"
    return "is not a setting; `gramophone serve --help` lists them"


def _typed(entry: Entry, value: object, path: Path) -> Any:
    """Returns a value converted for click; raises SettingsFileError if it has the wrong type."""
    found: object = value
    if entry.many:
        found = (value,) if isinstance(value, str) else value
        is_good = isinstance(found, list | tuple) and all(isinstance(part, str) for part in found)
    elif entry.type is bool:
        is_good = isinstance(value, bool)
    elif entry.type in (int, float):
        is_good = (
            (isinstance(value, int) and not isinstance(value, bool))
            or (isinstance(value, float) and entry.type is float)
            or (isinstance(value, str) and (entry.is_size or (entry.optional and value == "none")))
        )  # fmt: skip
    else:
        is_good = isinstance(value, str)
    if not is_good:
        raise SettingsFileError(f"{entry.key!r} in {path} is {_shown(value)}, but must be {_wanted(entry)}")
    if entry.type is Path and isinstance(value, str) and value and not value.startswith("~"):
        return str(path.parent / value)
    return found


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) < 60 else f"{text[:56]} …"


def _wanted(entry: Entry) -> str:
    none = ', or "none"' if entry.optional and entry.type in (int, float) else ""
    if entry.many:
        return f'a list of strings, such as {entry.key} = ["{(*entry.default, "name")[0]}"]'
    if entry.type is bool:
        return "true or false"
    if entry.is_size:
        return f'a size, such as {entry.key} = "3GB"{none}'
    if entry.type is int:
        return f"a whole number without quotes{none}"
    if entry.type is float:
        return f"a number without quotes{none}"
    return f'{"a path" if entry.type is Path else "a string"} in quotes, such as {entry.key} = "{_example(entry)}"'


def _example(entry: Entry) -> str:
    if entry.choices or entry.default:
        return str(entry.default)
    return "/srv/gramophone" if entry.type is Path else "text"
