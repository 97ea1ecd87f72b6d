"""Options that are repeated for each style."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from .. import Style
from ..grouped_help import GroupedOption
from .files import MASK, PICTURE, Picture
from .options import flag

_Command = TypeVar("_Command", bound=Callable[..., Any])
_GROUP = "Styles"
# Names of the options, and the field of Style that each sets.
FIELDS = {
    "style_share": "weight",
    "style_scale": "scale",
    "mask": "mask",
    "source_mask": "source_mask",
    "source_map": "source_map",
}
_SHARE = "Share of a style among several; repeat it for each style.  [at least 0; default: 1]"
_SCALE = "Size of a style relative to the canvas; repeat it for each style.  [0.1 to 8; default: 1]"
_SETTINGS: dict[str, dict[str, Any]] = {
    "style_share": {"type": float, "metavar": "X", "help": _SHARE},
    "style_scale": {"type": float, "metavar": "X", "help": _SCALE},
    "mask": {"type": MASK, "help": 'White where a style is painted; repeat it for each style, "-" for everywhere.'},
    "source_mask": {
        "type": MASK,
        "help": 'White where a style is taken from; repeat it for each style, "-" for the whole picture.',
    },
    "source_map": {
        "type": PICTURE,
        "help": "Regions of a style in the colors of --canvas-map; repeat it for each style.",
    },
}


def style_options(command: _Command) -> _Command:
    """Adds the options of styles to a command."""
    for name, settings in reversed(_SETTINGS.items()):
        command = click.option(flag(name), cls=GroupedOption, group=_GROUP, multiple=True, **settings)(command)
    return command


def styles_of(pictures: Sequence[Picture], options: dict[str, Any]) -> list[Style]:
    """Returns the styles with their options: the first value of each option is for the first style, and so on.

    Args:
        options: the command's options; the options of styles are removed from it.

    Raises:
        click.UsageError: an option has more values than there are styles.
    """
    taken = {field: options.pop(name) for name, field in FIELDS.items()}
    for name, field in FIELDS.items():
        if len(taken[field]) > len(pictures):
            styles = {0: "is no style", 1: "is 1 style"}.get(len(pictures), f"are {len(pictures)} styles")
            raise click.UsageError(f"{flag(name)} is given {len(taken[field])} times, but there {styles}")
    rows = itertools.zip_longest(pictures, *taken.values())
    return [Style(picture, **dict(zip(taken, map(_value, values), strict=True))) for picture, *values in rows]


def names_of(styles: Sequence[Style]) -> dict[str, Picture]:
    """Returns the pictures of styles by the path of their field in the request."""
    return {
        f"styles[{i}].{part}": picture
        for i, style in enumerate(styles)
        for part in ("mask", "source_mask", "source_map", "image")
        if isinstance(picture := getattr(style, part), str | bytes)
    }


def _value(value: Any) -> Any:
    return None if value == "-" else value
