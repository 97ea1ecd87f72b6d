"""Declares settings as fields of frozen dataclasses, and lists the settings of a class.

click makes the flags and also reads the variables and the values of the file. pydantic-settings would do the same, but
would add 0.25 s of imports to the start of the front, which must take less than 1 s.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_PREFIX = "GRAMOPHONE_"
_SETTING, _TITLE = "setting", "title"
_TYPES = (bool, int, float, str, Path)

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The properties of a setting other than its name, type and default.

    Attributes:
        description: one or two sentences for users.
        minimum, maximum: bounds of a number, both included.
        exclusive: whether the minimum itself is not allowed.
        below: the error for a size below the minimum; follows the value.
        unit: "bytes" (also written as 3GB) or "seconds"; empty for a plain number.
        default_text: the default in words, for values such as None that do not explain themselves.
        path: for a path, whether it names a file or a folder.
        exists: whether a folder given by a flag or a key must exist.
        check: raises a ValueError for an invalid value within the bounds.
        metavar: the name of the value in --help.
        flag: the flag, if it differs from the one derived from the field's name.
        variable: the variable, if it differs from the one derived from the flag.
        secret: whether the value may hold a password: child processes do not get its variable.
        flag_only: whether there is only a flag, for the parent process that starts the server.
        hidden: whether --help and the reference page leave it out.
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


def setting(default: Any, description: str, **properties: Any) -> Any:
    """Declares a field that is a setting; for the keyword arguments see `Setting`."""
    return dataclasses.field(default=default, metadata={_SETTING: Setting(description=description, **properties)})


def group(kind: type[S], title: str) -> S:
    """Declares a field that is a group of settings with a title."""
    made: S = dataclasses.field(default_factory=kind, metadata={_TITLE: title})
    return made


@dataclass(frozen=True)
class Entry:
    """A setting with its name, type and default.

    Attributes:
        group, title: the field of the setting's group, and the group's title.
        name: the setting's field in the group; also its key in a settings file.
        type: bool, int, float, str or Path; the type of each value if `many`.
        choices: the allowed values of a str; empty for any.
        many: whether the value is a tuple.
        optional: whether the value may be None.
        default: the default value.
        properties: all other properties.
    """

    group: str
    title: str
    name: str
    type: type
    choices: tuple[str, ...]
    many: bool
    optional: bool
    default: Any
    properties: Setting

    @cached_property
    def flag(self) -> str:
        """The flag of `gramophone serve`."""
        return self.properties.flag or "--" + self.name.replace("_", "-")

    @cached_property
    def variable(self) -> str | None:
        """The environment variable; None if there is none."""
        if self.properties.flag_only:
            return None
        return self.properties.variable or _PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()

    @property
    def key(self) -> str | None:
        """The key in a settings file; None if there is none."""
        return None if self.properties.flag_only else self.name

    @property
    def is_size(self) -> bool:
        """Whether it is a number of bytes."""
        return self.properties.unit == "bytes"


def entries(kind: type) -> tuple[Entry, ...]:
    """Returns the settings of all groups of a class, in order.

    Args:
        kind: `Settings`, or another dataclass of groups.

    Raises:
        TypeError: a field is not a group or a setting, has an unsupported type, or a duplicate name, flag or variable.
    """
    hints = get_type_hints(kind)
    found: list[Entry] = []
    for field in dataclasses.fields(kind):
        if _TITLE not in field.metadata:
            raise TypeError(f"{kind.__name__}.{field.name} is not made by group()")
        members = hints[field.name]
        types_of = get_type_hints(members)
        for member in dataclasses.fields(members):
            if _SETTING not in member.metadata:
                raise TypeError(f"{members.__name__}.{member.name} is not made by setting()")
            found.append(_entry(field.name, field.metadata[_TITLE], member, types_of[member.name]))
    for what in ("name", "flag", "variable"):
        names = [value for entry in found if (value := getattr(entry, what)) is not None]
        if twice := {name for name in names if names.count(name) > 1}:
            raise TypeError(f"several settings have the {what} {', '.join(sorted(twice))}")
    return tuple(found)


def build(kind: type[S], values: Mapping[str, Any]) -> S:
    """Builds an instance of a class of groups from values by setting name; missing values take the defaults."""
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
        raise TypeError(f"{field.name} has a type that settings do not support: {hint}")
    return Entry(group, title, field.name, kind, choices, many, optional, field.default, field.metadata[_SETTING])
