"""`gramophone style | content | transfer`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import Client, Job, Style
from .connect import connect, quiet_option, server_option, summary, watch
from .options import LAYERS, given, output_format, priority_option, synthesis_options, write

_Command = TypeVar("_Command", bound=Callable[..., Any])
_output = click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("out.png"), show_default=True
)
_previews = click.option("--previews", type=click.Path(file_okay=False, path_type=Path), help="Save previews here.")


def _masks(command: _Command) -> _Command:
    """Adds the options that give styles their regions."""
    region = click.option("--mask", multiple=True, metavar="FILE", help="White where a style is painted; one a style.")
    source = click.option("--source-mask", multiple=True, metavar="FILE", help="White where a style is taken from.")
    return region(source(command))


def with_masks(pictures: Sequence[str], masks: Sequence[str], source_masks: Sequence[str]) -> list[Style]:
    """Styles with their masks, the first mask for the first style and so on; "-" for none."""
    for name, given_masks in (("--mask", masks), ("--source-mask", source_masks)):
        if len(given_masks) > len(pictures):
            raise click.UsageError(f"{name} is given {len(given_masks)} times, but there are {len(pictures)} styles")
    rows = itertools.zip_longest(pictures, masks, source_masks)
    return [Style(p, mask=None if m == "-" else m, source_mask=None if s == "-" else s) for p, m, s in rows]


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--layers", type=LAYERS, help="1 to 5, or names, or name=weight, separated by commas.")
@_masks
@synthesis_options
@priority_option
@_output
@_previews
@server_option
@quiet_option
def style(pictures: tuple[str, ...], **options: Any) -> None:
    """Make a texture with the style of PICTURES."""
    styles = with_masks(pictures, options.pop("mask"), options.pop("source_mask"))
    _paint(lambda client, chosen: client.style(styles, **chosen), options)


@click.command()
@click.argument("picture")
@click.option("--layer", "--layers", "layers", type=LAYERS, help="Names, or name=weight, separated by commas.")
@synthesis_options
@priority_option
@_output
@_previews
@server_option
@quiet_option
def content(picture: str, **options: Any) -> None:
    """Make a picture from what a layer knows of PICTURE."""
    _paint(lambda client, chosen: client.content(picture, **chosen), options)


@click.command()
@click.argument("picture")
@click.argument("styles", nargs=-1, required=True)
@click.option("--content-layers", type=LAYERS, help="Names, or name=weight, separated by commas.")
@click.option("--style-layers", type=LAYERS, help="1 to 5, or names, or name=weight, separated by commas.")
@click.option("--content-weight", type=float, metavar="ALPHA", help="Weight of the content.")
@click.option("--style-weight", type=float, metavar="BETA", help="Weight of the style.")
@_masks
@synthesis_options
@priority_option
@_output
@_previews
@server_option
@quiet_option
def transfer(picture: str, styles: tuple[str, ...], **options: Any) -> None:
    """Paint PICTURE in the style of STYLES."""
    sources = with_masks(styles, options.pop("mask"), options.pop("source_mask"))
    _paint(lambda client, chosen: client.transfer(picture, sources, **chosen), options)


def _paint(submit: Callable[[Client, dict[str, Any]], Job], options: dict[str, Any]) -> None:
    output: Path = options.pop("output")
    previews: Path | None = options.pop("previews")
    server, quiet = options.pop("server"), options.pop("quiet")
    with connect(server) as client:
        # The command is its job's only watcher: without it nobody would come for the result.
        chosen = {
            "preview_every": 1 if previews else 0,
            "on_disconnect": "cancel",
            **output_format(output),
            **given(options),
        }
        job = submit(client, chosen)
        for frame in watch(job, quiet=quiet):
            if previews and frame.preview_bytes:
                previews.mkdir(parents=True, exist_ok=True)
                (previews / f"{frame.iteration:06}.jpg").write_bytes(frame.preview_bytes)
        result = job.result()
        write(output, result.data)
        click.echo(summary(result, str(output)))
