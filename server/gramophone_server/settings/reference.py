"""Generates the reference page of the settings."""

from itertools import groupby

from gramophone.runtime import MACHINE

from .groups import Settings
from .sizes import size_text
from .table import Entry, entries

_HEAD = """# Settings

<!-- Written by `make reference` from server/gramophone_server/settings; do not edit. -->

Each setting of `gramophone serve` can be given in three ways. A flag overrides a variable, and a variable the file.

    gramophone serve --max-queued 100
    GRAMOPHONE_MAX_QUEUED=100 gramophone serve
    gramophone serve --config server.toml

```toml
# server.toml; $GRAMOPHONE_CONFIG can name this file instead of --config.
max_queued = 100
memory = "3GB"
devices = ["cuda:0", "cuda:1"]
insecure = false
```

| value | as a flag | as a variable | in the file |
| --- | --- | --- | --- |
| a size | `3GB`, `3GiB`, or bytes | the same | `"3GB"`, or bytes without quotes |
| yes or no | `--insecure`, `--no-insecure` | `true`, `false` | `true`, `false` |
| several values | the flag several times | separated by commas | `["cpu", "cuda:0"]` |
| a path | relative to the working folder of the server | the same | relative to the folder of the file |
| no limit, for a number that has no limit by default | `none` | `none` | `"none"` |

An empty variable counts as unset. Unknown keys are errors. The server reads its settings only at the start. A server
that a Python program or a command starts for itself reads only the variables that describe the machine:
{machine}.
"""
_COLUMNS = "| flag | variable | key | default | bounds | meaning |\n| --- | --- | --- | --- | --- | --- |"


def reference(kind: type = Settings) -> str:
    """Returns the page, in Markdown, for the settings of a class of groups."""
    table = [entry for entry in entries(kind) if not entry.properties.hidden]
    parts = [_HEAD.format(machine=", ".join(f"`{name}`" for name in MACHINE))]
    for title, group in groupby(table, lambda entry: entry.title):
        rows = "\n".join(_row(entry) for entry in group)
        parts.append(f"## {title}\n\n{_COLUMNS}\n{rows}\n")
    return "\n".join(parts)


def _row(entry: Entry) -> str:
    variable = f"`{entry.variable}`" if entry.variable else "–"
    key = f"`{entry.key}`" if entry.key else "–"
    cells = (f"`{entry.flag}`", variable, key, _default(entry), _bounds(entry), entry.properties.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(entry: Entry) -> str:
    if entry.properties.default_text:
        return entry.properties.default_text
    if entry.default in (None, "", ()):
        return "none"
    if entry.many:
        return ", ".join(f"`{value}`" for value in entry.default)
    if entry.type is bool:
        return "yes" if entry.default else "no"
    return f"`{_value(entry, entry.default)}`"


def _bounds(entry: Entry) -> str:
    low, high = entry.properties.minimum, entry.properties.maximum
    if entry.choices:
        return ", ".join(f"`{choice}`" for choice in entry.choices)
    if low is not None and high is not None and not entry.properties.exclusive:
        return f"{_value(entry, low)} to {_value(entry, high)}"
    parts = []
    if low is not None:
        parts.append(f"{'more than' if entry.properties.exclusive else 'at least'} {_value(entry, low)}")
    if high is not None:
        parts.append(f"at most {_value(entry, high)}")
    return ", ".join(parts)


def _value(entry: Entry, value: object) -> str:
    if entry.is_size and isinstance(value, int | float):
        return size_text(int(value))
    unit = " s" if entry.properties.unit == "seconds" else ""
    return f"{value:.15g}{unit}" if isinstance(value, int | float) else str(value)
