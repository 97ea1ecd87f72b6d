"""Options of the commands that paint, made of those of the contract. Only what is given is sent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from ..grouped_help import GroupedOption
from ..option import Option
from ..options import OPTIONS
from .files import PictureOrWordType

_Command = TypeVar("_Command", bound=Callable[..., Any])


class LayersType(click.ParamType[Any]):
    """`3`, `conv1_1,conv2_1` or `conv1_1=1,conv2_1=0.5`."""

    name = "LAYERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A number, a list of names, or names with weights."""
        if not isinstance(value, str):
            return value
        if value.isdecimal():
            return int(value)
        names = [part.strip() for part in value.split(",") if part.strip()]
        if not names:
            self.fail(f"{value!r} names no layer; write a number, or names such as conv1_1,conv2_1", param, ctx)
        if not any("=" in name for name in names):
            return names
        weights = {}
        for part in names:
            name, _, weight = part.partition("=")
            try:
                weights[name] = float(weight) if weight else 1.0
            except ValueError:
                self.fail(f"{weight!r} is not a number, in {part!r}", param, ctx)
        return weights


class WholeType(click.ParamType[int]):
    """A whole number that is not too large for the field of the contract; the rest of the bounds is the server's."""

    name = "integer"

    def __init__(self, most: int = 2**31 - 1) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number, such as 3", param, ctx)
        if number > self._most:
            self.fail(f"{value} is too large a number; write at most {self._most}", param, ctx)
        return number


class SecondsType(click.ParamType[float]):
    """A length of time that has an end."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        try:
            seconds = float(value)
            timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a number of seconds, such as 90 or 1.5", param, ctx)
        return seconds


LAYERS, WHOLE = LayersType(), WholeType()


def _number(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def output_format(path: Path) -> dict[str, str]:
    """The option that makes the server write what the path's suffix says, where it can."""
    return {"result_format": "tiff"} if path.suffix.lower() in (".tif", ".tiff") else {}


def job_options(command: _Command) -> _Command:
    """Adds all options of jobs to a command."""
    return with_options(command)


def with_options(command: _Command, without: Collection[str] = ()) -> _Command:
    """Adds the options of jobs to a command, but for some."""
    for option in reversed(OPTIONS):
        if option.name not in without:
            command = _added(command, option)
    return command


# What says how a job is submitted, and nothing of its picture.
SUBMISSION = frozenset(option.name for option in OPTIONS if option.path.startswith("submission."))
PREVIEWS = frozenset(option.name for option in OPTIONS if option.path.startswith("options.preview."))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def flag(name: str) -> str:
    """The option of the command line for a keyword option."""
    return "--" + name.replace("_", "-")


def _added(command: _Command, option: Option) -> _Command:
    settings: dict[str, Any] = {"group": option.group, "help": _help(option), **_type(option)}
    name = flag(option.name)
    if option.type == "boolean":
        name = f"{name}/--no-{name.removeprefix('--')}"
    return click.option(name, cls=GroupedOption, **settings)(command)


def _help(option: Option) -> str:
    first = option.help.partition(". ")[0].removesuffix(".")
    limits = [option.range] if option.range and not option.values else []
    if option.default:
        limits.append(f"default: {option.default}")
    return f"{first}.  [{'; '.join(limits)}]" if limits else f"{first}."


def _type(option: Option) -> dict[str, Any]:
    """Settings of click for the values of an option."""
    if option.image_path:
        return {"type": PictureOrWordType(tuple(option.choices))}
    if option.values:
        return {"type": click.Choice([str(value) for value in option.values]), "callback": _number}
    match option.type:
        case "integer":
            return {"type": WholeType(option.bounds[1]), "metavar": option.unit.upper() or "N"}
        case "number":
            return {"type": float, "metavar": "X"}
        case "boolean":
            return {"default": None}
        case "choice":
            return {"type": click.Choice(list(option.choices))}
        case "duration":
            return {"type": SecondsType(), "metavar": "SECONDS"}
        case _:
            return {"metavar": "NAME"}
