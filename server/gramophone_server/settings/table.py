"""How a setting is declared, and the table of all that a class declares.

A setting is a field of a frozen dataclass, and click, which makes the flags, reads the variables and the file as well:
pydantic-settings would add 0.25 s of imports to the start of the front, which takes less than 1 s.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_PREFIX = "GRAMOPHONE_"
_ABOUT, _TITLE = "setting", "title"
_TYPES = (bool, int, float, str, Path)

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known about a setting beside its name, its type and its default.

    Attributes:
        description: one or two sentences for users.
        minimum, maximum: bounds of a number, both included.
        exclusive: whether the minimum itself is not allowed.
        below: what is said of a size below the minimum, after the value.
        unit: "bytes" (also written as 3GB) or "seconds"; empty for a plain number.
        default_text: what the default means, where the value itself does not say it, as with None.
        path: of a path, whether it is a file's or a folder's.
        exists: whether the flag and the key need that folder to be there.
        check: raises a ValueError for a value that the bounds let through and that cannot be used.
        metavar: what stands for the value in --help.
        flag: the flag, if it is not made from the field's name.
        variable: the variable, if it is not made from the flag.
        secret: whether the value may hold a password: child processes do not get its variable.
        flag_only: whether there is neither a variable nor a key: only the parent that starts the server knows it.
        hidden: whether --help and the reference leave it out.
    """

    description: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive: bool = False
    below: str = ""
    unit: Literal["", "bytes", "seconds"] = ""
    default_text: str = ""
    path: Literal["", "file", "folder"] = ""
    exists: bool = False
    check: Callable[[Any], None] | None = None
    metavar: str | None = None
    flag: str = ""
    variable: str = ""
    secret: bool = False
    flag_only: bool = False
    hidden: bool = False


def setting(default: Any, description: str, **about: Any) -> Any:
    """A field that is a setting; for the keyword arguments see `Setting`."""
    return dataclasses.field(default=default, metadata={_ABOUT: Setting(description=description, **about)})


def group(kind: type[S], title: str) -> S:
    """A field that is a group of settings under a title."""
    made: S = dataclasses.field(default_factory=kind, metadata={_TITLE: title})
    return made


@dataclass(frozen=True)
class Entry:
    """A setting in the table.

    Attributes:
        group, title: the field of its group, and what the group is called.
        name: its field in the group; also its key in a settings file.
        type: bool, int, float, str or Path: of each value, if there are several.
        choices: the values that a text may have; empty for any.
        many: whether it is a tuple of values.
        optional: whether it may be None.
        default: a value.
        about: all else.
    """

    group: str
    title: str
    name: str
    type: type
    choices: tuple[str, ...]
    many: bool
    optional: bool
    default: Any
    about: Setting

    @cached_property
    def flag(self) -> str:
        """The flag of `gramophone serve`."""
        return self.about.flag or "--" + self.name.replace("_", "-")

    @cached_property
    def variable(self) -> str | None:
        """The environment variable; None if there is none."""
        if self.about.flag_only:
            return None
        return self.about.variable or _PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()

    @property
    def key(self) -> str | None:
        """The key in a settings file; None if there is none."""
        return None if self.about.flag_only else self.name

    @property
    def is_size(self) -> bool:
        """Whether it is a number of bytes."""
        return self.about.unit == "bytes"


def entries(kind: type) -> tuple[Entry, ...]:
    """The settings of all groups of a class, in its order.

    Args:
        kind: `Settings`, or a dataclass whose fields are groups likewise.

    Raises:
        TypeError: a field is neither, has a type that flags cannot have, or a name or variable that another has.
    """
    hints = get_type_hints(kind)
    found: list[Entry] = []
    for field in dataclasses.fields(kind):
        if _TITLE not in field.metadata:
            raise TypeError(f"{kind.__name__}.{field.name} is not made by group()")
        members = hints[field.name]
        types_of = get_type_hints(members)
        for member in dataclasses.fields(members):
            if _ABOUT not in member.metadata:
                raise TypeError(f"{members.__name__}.{member.name} is not made by setting()")
            found.append(_entry(field.name, field.metadata[_TITLE], member, types_of[member.name]))
    for what in ("name", "flag", "variable"):
        names = [value for entry in found if (value := getattr(entry, what)) is not None]
        if twice := {name for name in names if names.count(name) > 1}:
            raise TypeError(f"several settings have the {what} {', '.join(sorted(twice))}")
    return tuple(found)


def build(kind: type[S], values: Mapping[str, Any]) -> S:
    """An instance of a class of groups from the values of its settings, by name; what is left out has its default."""
    hints = get_type_hints(kind)
    groups: dict[str, dict[str, Any]] = {field.name: {} for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for entry in entries(kind):
        if entry.name in values:
            groups[entry.group][entry.name] = values[entry.name]
    return kind(**{name: hints[name](**members) for name, members in groups.items()})


def _entry(group: str, title: str, field: "dataclasses.Field[Any]", hint: Any) -> Entry:
    kind, optional, many, choices = hint, False, False, ()
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        (kind, *more) = (part for part in get_args(kind) if part is not type(None))
        optional = True
        if more:
            raise TypeError(f"{field.name} has more than one type: {hint}")
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        kind, many = get_args(kind)[0], True
    if get_origin(kind) is Literal:
        kind, choices = str, get_args(kind)
    if kind not in _TYPES:
        raise TypeError(f"{field.name} has a type that a setting cannot have: {hint}")
    return Entry(group, title, field.name, kind, choices, many, optional, field.default, field.metadata[_ABOUT])
