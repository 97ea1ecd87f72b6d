"""Options of the painting commands, generated from the contract's options. Only given options are sent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from ..grouped_help import GroupedOption
from ..option import Option
from ..options import OPTIONS
from .files import PICTURE, PictureOrWordType

_Command = TypeVar("_Command", bound=Callable[..., Any])


class LayersType(click.ParamType[Any]):
    """Layers: `3`, `conv1_1,conv2_1` or `conv1_1=1,conv2_1=0.5`."""

    name = "LAYERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a number, a list of names, or a dict of names and weights."""
        if not isinstance(value, str):
            return value
        if value.isdecimal():
            return int(value)
        names = [part.strip() for part in value.split(",") if part.strip()]
        if not names:
            self.fail(f"{value!r} contains no layer; write a number, or names such as conv1_1,conv2_1", param, ctx)
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


class WeightedWordsType(click.ParamType[Any]):
    """One word, several, or words with weights: `gram`, `gram,spectrum` or `gram=1,spectrum=0.5`."""

    name = "words"

    def __init__(self, words: Collection[str]) -> None:
        self._words = words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Returns the words, for help texts."""
        return f"[{'|'.join(self._words)}][=WEIGHT],..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a word, or a dict of words and weights; the weight is None for a word without."""
        if not isinstance(value, str):
            return value
        found: dict[str, float | None] = {}
        for part in value.split(","):
            word, equals, weight = (piece.strip() for piece in part.partition("="))
            if word not in self._words:
                self.fail(f"{word!r} is not one of {', '.join(self._words)}", param, ctx)
            if word in found:
                self.fail(f"{word!r} is given twice, in {value!r}", param, ctx)
            try:
                found[word] = float(weight) if equals else None
            except ValueError:
                self.fail(f"{weight!r} is not a number, in {part!r}", param, ctx)
        return value if value in self._words else found


class IntegerType(click.ParamType[int]):
    """An integer that fits the field of the contract; the server checks other bounds."""

    name = "integer"

    def __init__(self, most: int = 2**31 - 1) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the number."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number, such as 3", param, ctx)
        if number > self._most:
            self.fail(f"{value} is too large; write at most {self._most}", param, ctx)
        return number


class SecondsType(click.ParamType[float]):
    """A finite duration in seconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the seconds."""
        try:
            seconds = float(value)
            timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a number of seconds, such as 90 or 1.5", param, ctx)
        return seconds


LAYERS = LayersType()


def _number(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def output_format(path: Path) -> dict[str, str]:
    """Returns the option that makes the server write the format of the path's suffix, if it supports it."""
    return {"result_format": "tiff"} if path.suffix.lower() in (".tif", ".tiff") else {}


def job_options(command: _Command) -> _Command:
    """Adds all options of jobs to a command."""
    return with_options(command)


def with_options(command: _Command, without: Collection[str] = ()) -> _Command:
    """Adds the options of jobs to a command, except those in `without`."""
    for option in reversed(OPTIONS):
        if option.name not in without:
            command = _added(command, option)
    return command


# Options that do not affect the picture.
SUBMISSION = frozenset(option.name for option in OPTIONS if option.path.startswith("submission."))
PREVIEWS = frozenset(option.name for option in OPTIONS if option.path.startswith("options.preview."))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that were given, that is, are not None."""
    return {name: value for name, value in options.items() if value is not None}


def flag(name: str) -> str:
    """Returns the command-line option of a keyword option: "--tile-size" for "tile_size"."""
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
    """Returns click's settings for the values of an option."""
    if option.weights_path:
        return {"type": WeightedWordsType(tuple(option.choices))}
    if option.image_path:
        return {"type": PictureOrWordType(tuple(option.choices))}
    if option.values:
        return {"type": click.Choice([str(value) for value in option.values]), "callback": _number}
    match option.type:
        case "integer":
            return {"type": IntegerType(option.bounds[1]), "metavar": option.unit.upper() or "N"}
        case "number":
            return {"type": float, "metavar": "X"}
        case "boolean":
            return {"default": None}
        case "choice":
            return {"type": click.Choice(list(option.choices))}
        case "image":
            return {"type": PICTURE}
        case "duration":
            return {"type": SecondsType(), "metavar": "SECONDS"}
        case _:
            return {"metavar": "NAME"}
