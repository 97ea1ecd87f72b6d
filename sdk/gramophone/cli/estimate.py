"""The command `gramophone estimate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..grouped_help import GroupedCommand
from ..options import JobKind
from ..values import Estimate
from .connect import Server, connect, server_option
from .console import say
from .files import PICTURE, Picture, shown
from .options import LAYERS, SUBMISSION, given, with_options
from .paint import contents_and_styles
from .sentences import name_pictures
from .styles import names_of, style_options, styles_of

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(command: _Command) -> _Command:
    return with_options(command, SUBMISSION)


@click.command(cls=GroupedCommand)
@click.argument("kind", type=click.Choice(["style", "content", "transfer"]))
@click.argument("pictures", nargs=-1, required=True, type=PICTURE)
@click.option("-s", "--style", "styles", multiple=True, type=PICTURE, help="A style, for transfer; repeat it for more.")
@click.option("--layers", type=LAYERS, help="Layers, for style and content.")
@click.option("--content-layers", type=LAYERS, help="Layers of the content, for transfer.")
@click.option("--style-layers", type=LAYERS, help="Layers of the style, for transfer.")
@click.option("--content-weight", type=float, metavar="ALPHA", help="Weight of the content, for transfer.")
@click.option("--style-weight", type=float, metavar="BETA", help="Weight of the style, for transfer.")
@style_options
@_options
@server_option
def estimate(
    kind: JobKind, pictures: tuple[Picture, ...], styles: tuple[Picture, ...], server: Server, **options: Any
) -> None:
    """Estimate the memory and time of a job without running it.

    PICTURES and options are those of `gramophone style`, `content` or `transfer`.
    """
    if kind != "transfer" and styles:
        raise click.UsageError(f"--style is for transfer only; give the pictures of {kind} as arguments")
    arguments: list[Any]
    if kind == "style":
        arguments = [styles_of(pictures, options)]
    elif kind == "content":
        if len(pictures) != 1:
            raise click.UsageError("a content reconstruction takes one picture")
        styles_of([], options)
        arguments = [pictures[0]]
    else:
        contents, sources = contents_and_styles(pictures, styles, "gramophone estimate transfer")
        if len(contents) != 1:
            raise click.UsageError("an estimate takes one content picture; give more styles with --style")
        arguments = [contents[0], styles_of(sources, options)]
    _name(kind, arguments)
    with connect(server) as client:
        for line in lines(client.estimate(kind, *arguments, **given(options))):
            say(line)


def _name(kind: str, arguments: list[Any]) -> None:
    names = {} if kind == "content" else names_of(arguments[-1])
    pictures = names if kind == "style" else names | {"content": arguments[0]}
    name_pictures({at: shown(picture) for at, picture in pictures.items()})


def lines(estimate: Estimate) -> list[str]:
    """Returns the lines that show an estimate to the user."""
    mode = f"in tiles of {estimate.tile_size} pixels" if estimate.tile_size else "whole"
    verdict = "fits" if estimate.fits else "DOES NOT FIT"
    return [
        f"canvas   {estimate.width}x{estimate.height}, {mode}, on {estimate.device}",
        f"memory   {_bytes(estimate.peak_memory)} of {_bytes(estimate.available_memory)}: {verdict}",
        f"work     {estimate.flops:.3g} floating-point operations",
        f"time     {_duration(estimate.seconds)}, {estimate.seconds_per_iteration:.3g} s per iteration at full size",
    ]


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
