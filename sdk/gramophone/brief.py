"""Base classes for short representations in logs, and for pickling."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn

# Maximum length of a representation, and of one string in it, in characters.
_MAX_REPR, _MAX_TEXT = 180, 80


class Brief:
    """An object with a short representation that is safe to log: computing it decodes no picture and never raises.

    It shows the attributes listed in `_shown`; if that is empty, all fields of the dataclass.
    """

    _shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        try:
            parts = ", ".join(self._parts())
        except Exception:
            # The object is not complete yet, for example while it is unpickled.
            parts = "..."
        if len(parts) > _MAX_REPR:
            parts = f"{parts[:_MAX_REPR]}…"
        return f"{type(self).__name__}({parts})"

    def _parts(self) -> Iterator[str]:
        names = self._shown or [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        for name in names:
            yield f"{name}={described(getattr(self, name))}"


class Value(Brief):
    """A dataclass of plain values. A pickle or a copy contains its fields, without cached properties such as images."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            field.name: self.__dict__[field.name]
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.name in self.__dict__
        }


class NotPicklable(Brief):
    """An object that holds a connection or a process, so it cannot be pickled or copied.

    Subclasses say in `_instead` what to send to another process instead.
    """

    _instead: ClassVar[str] = ""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be pickled or copied: {self._instead}")


def described(value: object) -> str:
    """Returns a short description of a value."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, str):
        return repr(shortened(value, _MAX_TEXT))
    if isinstance(value, bool | int) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list | dict | set | frozenset):
        return f"{len(value)} item{'' if len(value) == 1 else 's'}"
    if isinstance(value, Brief):
        return repr(value)
    # PIL images and arrays.
    size = getattr(value, "size", None) if hasattr(value, "mode") else getattr(value, "shape", None)
    if isinstance(size, tuple):
        kind = getattr(value, "mode", None) or getattr(value, "dtype", "")
        return f"<{type(value).__name__} {kind} {'x'.join(map(str, size))}>"
    return shortened(str(value), _MAX_TEXT)


def shortened(text: str, limit: int) -> str:
    """Returns the text, with its middle left out if it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
