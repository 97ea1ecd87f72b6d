"""Options of the commands that paint. Their defaults are the server's; only what is given is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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


LAYERS = LayersType()

_OPTIONS = [
    click.option("--size", type=int, metavar="PIXELS", help="Size of the canvas."),
    click.option("--fit", type=click.Choice(["longest_side", "square"]), help="How pictures are fitted to the size."),
    click.option("--iterations", type=int, metavar="N", help="Updates of the canvas."),
    click.option("--optimizer", type=click.Choice(["lbfgs", "adam"])),
    click.option("--learning-rate", type=float, metavar="RATE"),
    click.option("--init", metavar="noise|content|FILE", help="What the canvas starts from."),
    click.option("--seed", type=int, metavar="N", help="Seed of the noise."),
    click.option("--precision", type=click.Choice(["float32", "bfloat16"])),
    click.option("--pooling", type=click.Choice(["max", "average"])),
    click.option("--tv-weight", type=float, metavar="WEIGHT", help="Weight of the total variation, which smooths."),
    click.option("--report-every", type=int, metavar="N", help="Iterations between two reports."),
    click.option("--time-limit", type=float, metavar="SECONDS", help="End with the picture there is by then."),
    click.option("--model", metavar="NAME", help="See `gramophone models list`."),
]


def synthesis_options(command: _Command) -> _Command:
    """Adds the options of SynthesisOptions to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def write(path: Path, png: bytes) -> None:
    """Writes a result, whole or not at all: a .png as it came, with its recipe; any other suffix by Pillow."""
    fresh = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix.lower() == ".png":
            fresh.write_bytes(png)
        else:
            from PIL import Image

            from ..images import decode

            Image.init()
            image_format = Image.EXTENSION.get(path.suffix.lower())
            if image_format is None:
                raise ValueError(
                    f"{path}: pictures cannot be written as {path.suffix or 'a file without a suffix'}; use .png"
                )
            decode(png).save(fresh, format=image_format)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
