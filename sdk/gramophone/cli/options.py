"""Options of the commands that paint. Their defaults are the server's; only what is given is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from .files import INIT

_Command = TypeVar("_Command", bound=Callable[..., Any])


class LayersType(click.ParamType[Any]):
    """`3`, `conv1_1,conv2_1` or `conv1_1=1,conv2_1=0.5`."""

    name = "LAYERS"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        """A number, a list of names, or names with weights."""
        if not isinstance(value, str):
            return value
        if value.isdecimal():
            return int(value)
        names = [part.strip() for part in value.split(",") if part.strip()]
        if not names:
            self.fail(f"{value!r} names no layer; write a number, or names such as conv1_1,conv2_1", param, context)
        if not any("=" in name for name in names):
            return names
        weights = {}
        for part in names:
            name, _, weight = part.partition("=")
            try:
                weights[name] = float(weight) if weight else 1.0
            except ValueError:
                self.fail(f"{weight!r} is not a number, in {part!r}", param, context)
        return weights


class WholeType(click.ParamType[int]):
    """A whole number that fits into the contract's fields; which ones are of use, the server knows."""

    name = "integer"

    def __init__(self, most: int = 2**31 - 1) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        """The number."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number, such as 3", param, context)
        if not -(2**31) <= number <= self._most:
            self.fail(f"{value} is too large a number", param, context)
        return number


class SecondsType(click.ParamType[float]):
    """A length of time that has an end."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """The seconds."""
        try:
            seconds = float(value)
            timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a number of seconds, such as 90 or 1.5", param, context)
        return seconds


LAYERS, WHOLE = LayersType(), WholeType()


def _number(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def output_format(path: Path) -> dict[str, str]:
    """The option that makes the server write what the path's suffix says, where it can."""
    return {"result_format": "tiff"} if path.suffix.lower() in (".tif", ".tiff") else {}


_SIZE = click.option("--size", type=WHOLE, metavar="PIXELS", help="Size of the canvas.")
_SEED = click.option("--seed", type=WholeType(2**32 - 1), metavar="N", help="Seed of the noise.")
_OPTIONS: list[Callable[[Any], Any]] = [
    _SIZE,
    click.option("--fit", type=click.Choice(["longest_side", "square"]), help="How pictures are fitted to the size."),
    click.option("--iterations", type=WHOLE, metavar="N", help="Updates of the canvas."),
    click.option("--optimizer", type=click.Choice(["lbfgs", "adam"])),
    click.option("--learning-rate", type=float, metavar="RATE"),
    click.option("--init", type=INIT, help="What the canvas starts from."),
    click.option("--init-noise", type=float, metavar="SHARE", help="Share of noise in --init blend."),
    _SEED,
    click.option("--precision", type=click.Choice(["float32", "bfloat16"])),
    click.option("--pooling", type=click.Choice(["max", "average", "average_rescaled"])),
    click.option(
        "--padding", type=click.Choice(["margin", "zeros", "replicate"]), help="What stands around the picture."
    ),
    click.option("--scales", type=WHOLE, metavar="N", help="Levels of the pyramid, coarse to fine."),
    click.option("--color", type=click.Choice(["style", "luminance", "match", "histogram"]), help="Whose colors."),
    click.option("--loss-scale", type=click.Choice(["paper", "relative"]), help="Units of the layers' losses."),
    click.option("--averaging", type=float, metavar="DECAY", help="Deliver an average of the iterates."),
    click.option("--plateau", type=float, metavar="FRACTION", help="End when 50 iterations gain less than this."),
    click.option("--lbfgs-history", type=WHOLE, metavar="N", help="Curvature pairs kept."),
    click.option("--tile-size", type=WHOLE, metavar="PIXELS", help="Compute in tiles, in less memory."),
    click.option("--bit-depth", type=click.Choice(["8", "16"]), callback=_number, help="Bits per channel."),
    click.option("--tv-weight", type=float, metavar="WEIGHT", help="Weight of the total variation, which smooths."),
    click.option("--report-every", type=WHOLE, metavar="N", help="Iterations between two reports."),
    click.option("--time-limit", type=SecondsType(), metavar="SECONDS", help="End with the picture there is by then."),
    click.option("--model", metavar="NAME", help="See `gramophone models list`."),
]


def synthesis_options(command: _Command) -> _Command:
    """Adds the options of SynthesisOptions to a command."""
    return _with(command, _OPTIONS)


def synthesis_options_of_many(command: _Command) -> _Command:
    """The same but for --size and --seed, for a command that has several of these."""
    return _with(command, [option for option in _OPTIONS if option not in (_SIZE, _SEED)])


def _with(command: _Command, options: list[Callable[[Any], Any]]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


priority_option = click.option(
    "--priority", type=click.IntRange(-10, 10), metavar="N", help="Which of your waiting jobs run first: -10 to 10."
)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
