"""How objects show themselves in logs, and which of them may be pickled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn

# Characters of a representation, and of one text in it.
_MOST, _MOST_OF_TEXT = 180, 80


class Brief:
    """An object whose representation is short and safe to log: it reads nothing, and never raises.

    It shows the attributes that `_shown` names, those of a dataclass if it names none.
    """

    _shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        try:
            parts = ", ".join(self._parts())
        except Exception:
            # One that is not finished yet, such as one that is being unpickled.
            parts = "..."
        if len(parts) > _MOST:
            parts = f"{parts[:_MOST]}…"
        return f"{type(self).__name__}({parts})"

    def _parts(self) -> Iterator[str]:
        names = self._shown or [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        for name in names:
            yield f"{name}={described(getattr(self, name))}"


class Value(Brief):
    """A dataclass of plain values. A pickle or a copy of it holds its fields, and not what was decoded from them."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            field.name: self.__dict__[field.name]
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.name in self.__dict__
        }


class Rooted(Brief):
    """An object that holds a connection or a process, and cannot go to another process or be copied.

    Subclasses say in `_instead` what to send in its place.
    """

    _instead: ClassVar[str] = ""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be pickled or copied: {self._instead}")


def described(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, str):
        return repr(shortened(value, _MOST_OF_TEXT))
    if isinstance(value, bool | int) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list | dict | set | frozenset):
        return f"{len(value)} item{'' if len(value) == 1 else 's'}"
    if isinstance(value, Brief):
        return repr(value)
    # Pictures: PIL images and arrays.
    size = getattr(value, "size", None) if hasattr(value, "mode") else getattr(value, "shape", None)
    if isinstance(size, tuple):
        kind = getattr(value, "mode", None) or getattr(value, "dtype", "")
        return f"<{type(value).__name__} {kind} {'x'.join(map(str, size))}>"
    return shortened(str(value), _MOST_OF_TEXT)


def shortened(text: str, most: int) -> str:
    """The text, without its middle if it is longer than that."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
