"""Makes click options from the settings. Each takes its value from a flag, a variable or the settings file."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gramophone.grouped_help import GroupedOption

from ..settings import Entry
from ..settings.sizes import parse_size, size_text

NONE = "none"
"""The word that sets an optional number to None, for example to override a variable or the file."""


class SettingOption(GroupedOption):
    """The click option of one setting.

    Attributes:
        entry: the setting.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        properties = entry.properties
        flag = f"{entry.flag}/--no-{entry.flag[2:]}" if _is_switch(entry) else entry.flag
        described = (
            f"{properties.description}  [default: {properties.default_text}]"
            if properties.default_text
            else properties.description
        )
        super().__init__(
            [entry.name, flag],
            default=size_text(entry.default) if entry.is_size and entry.default is not None else entry.default,
            show_default=not properties.default_text and entry.default not in (None, "") and entry.type is not bool,
            envvar=entry.variable,
            multiple=entry.many,
            is_flag=entry.type is bool,
            type=_type_of(entry),
            metavar=properties.metavar or {"bytes": "SIZE", "seconds": "SECONDS"}.get(properties.unit),
            callback=None if properties.check is None else _checked(properties.check),
            hidden=properties.hidden,
            help=described,
            group=entry.title,
        )

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Returns the variable's value. Commas separate several values, because names may contain spaces."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        text = self.resolve_envvar_value(ctx)
        return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Returns where an invalid value comes from: the flag, the variable, or the key and its file."""
        return (self.origin(ctx) if ctx is not None else "") or super().get_error_hint(ctx)

    def origin(self, ctx: click.Context) -> str:
        """Returns the variable, or the key and its file, that the value comes from; empty for a flag or a default."""
        source = ctx.get_parameter_source(self.entry.name)
        if source is ParameterSource.ENVIRONMENT:
            return f"${self.entry.variable}"
        return f"'{self.entry.key}' in {ctx.params['config']}" if source is ParameterSource.DEFAULT_MAP else ""


def _is_switch(entry: Entry) -> bool:
    return entry.type is bool and not entry.properties.flag_only


def _type_of(entry: Entry) -> "click.ParamType[Any]":
    properties = entry.properties
    if entry.choices:
        return click.Choice(entry.choices)
    if entry.type is Path:
        return _Path(entry)
    if entry.is_size:
        return _Size(entry)
    low = None if properties.minimum is None else entry.type(properties.minimum)
    high = None if properties.maximum is None else entry.type(properties.maximum)
    if entry.type is int:
        return _Integer(low, high, properties.exclusive, optional=entry.optional)
    if entry.type is float:
        return _Number(low, high, properties.exclusive, optional=entry.optional)
    return _Switch() if entry.type is bool else click.STRING


def _checked(check: Callable[[Any], None]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(context: click.Context, option: click.Parameter, value: Any) -> Any:
        if value is not None:
            try:
                check(value)
            except ValueError as error:
                raise click.BadParameter(str(error)) from error
        return value

    return callback


class _Switch(click.types.BoolParamType):
    """A boolean value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the value; raises click.BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither yes nor no; write true or false", param, ctx)


class _Integer(click.IntRange):
    """An integer within bounds, or "none" if the setting is optional."""

    name = "integer"

    def __init__(self, low: int | None, high: int | None, exclusive: bool, *, optional: bool) -> None:
        super().__init__(low, high, min_open=exclusive)
        self._optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the integer; raises click.BadParameter."""
        return None if self._optional and _is_none(value) else super().convert(value, param, ctx)


class _Number(click.FloatRange):
    """A finite number within bounds, or "none" if the setting is optional. FloatRange alone would accept NaN."""

    name = "number"

    def __init__(self, low: float | None, high: float | None, exclusive: bool, *, optional: bool) -> None:
        super().__init__(low, high, min_open=exclusive)
        self._optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number; raises click.BadParameter."""
        if self._optional and _is_none(value):
            return None
        try:
            number: float = super().convert(value, param, ctx)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


# No type parameter: click 8.1's ParamType is not generic.
class _Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, such as 3GB, or "none" if the setting is optional."""

    name = "size"

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Returns the bytes; raises click.BadParameter."""
        properties = self._entry.properties
        if self._entry.optional and _is_none(value):
            return None
        try:
            size = value if isinstance(value, int) else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if properties.minimum is not None and size < properties.minimum:
            below = properties.below or f"is too small; give it {size_text(int(properties.minimum))} or more"
            self.fail(f"{str(value)!r} {below}", param, ctx)
        if properties.maximum is not None and size > properties.maximum:
            self.fail(f"{str(value)!r} is too large; give it {size_text(int(properties.maximum))} or less", param, ctx)
        return size


class _Path(click.Path):
    """A file or a folder; ~ is expanded."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(
            file_okay=entry.properties.path != "folder", dir_okay=entry.properties.path != "file", path_type=Path
        )
        self._must_exist = entry.properties.exists

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path; raises click.BadParameter."""
        if not str(value):
            self.fail("it is empty; write a path, or leave it out", param, ctx)
        try:
            path = Path(value).expanduser()
        except RuntimeError as error:
            self.fail(f"{str(value)!r} cannot be found: {error}", param, ctx)
        # A folder in a variable may be missing: for example `gramophone models pull` makes it later.
        named = ctx is None or param is None or ctx.get_parameter_source(param.name or "") is not _ENVIRONMENT
        self.exists = self._must_exist and named
        return super().convert(path, param, ctx)


_ENVIRONMENT = ParameterSource.ENVIRONMENT


def _is_none(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() == NONE
