"""`gramophone sweep`: layers x seeds x sizes, looked at side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..contact_sheet import contact_sheet
from ..files import atomic_file
from ..grouped_help import GroupedCommand
from ..saving import encode_image
from .connect import Server, quiet_option, reach, server_option
from .console import say
from .files import PICTURE, Picture, check_output, save, shown
from .leaving import Vigil
from .options import PREVIEWS, WholeType, given, with_options
from .sentences import name_pictures
from .watching import farewell, watch

_NUMBER = WholeType()
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Numbers(click.ParamType[list[int]]):
    """`0,1,2`."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The numbers."""
        if isinstance(value, list):
            return value
        try:
            return [_NUMBER.convert(part, param, ctx) for part in value.split(",")]
        except click.BadParameter as error:
            self.fail(f"{error.message}; write numbers with commas between them, such as 0,1,2", param, ctx)


# Given for many at once, or of no use where each picture is a file of its own.
_WITHOUT = PREVIEWS | {"size", "seed", "result_format", "on_disconnect", "request_id"}


def _options(command: _Command) -> _Command:
    return with_options(command, _WITHOUT)


@click.command(cls=GroupedCommand)
@click.argument("picture", type=PICTURE)
@click.option("--layers", type=_Numbers(), default=[1, 2, 3, 4, 5], help="Numbers of layers.  [default: 1,2,3,4,5]")
@click.option("--seeds", type=_Numbers(), default=[0], help="Seeds.  [default: 0]")
@click.option("--sizes", type=_Numbers(), default=[224], help="Sizes.  [default: 224]")
@_options
@click.option("-o", "--output", metavar="FILE", default="sweep.png", show_default=True, help="The contact sheet.")
@server_option
@quiet_option
def sweep(
    picture: Picture,
    layers: list[int],
    seeds: list[int],
    sizes: list[int],
    output: str,
    server: Server,
    quiet: bool,
    **options: Any,
) -> None:
    """Reconstruct the style of PICTURE for every combination, on one contact sheet.

    Each picture is also saved on its own, in a folder beside the sheet. A row is a size and a seed, a column is a
    number of layers. Ctrl-C cancels the picture that is being painted and ends the sweep.
    """
    chosen = given(options)
    sheet = Path(output)
    if output == "-":
        raise click.BadParameter("a sweep makes several files; name the sheet's", param_hint="'-o' / '--output'")
    check_output(sheet, [picture])
    folder = sheet.with_suffix("")
    check_output(folder / "1.png", [picture])
    name_pictures({"styles[0]": shown(picture)})
    with (
        reach(server, quiet=quiet) as (client, place),
        Vigil(cancels=True, farewell=lambda job: farewell(place, job)) as vigil,
    ):
        rows = []
        for size, seed in itertools.product(sizes, seeds):
            row = []
            for count in layers:
                caption = f"{count} layers, {size} px, seed {seed}"
                job = client.style(picture, layers=count, size=size, seed=seed, preview_every=0, **chosen)
                for _ in watch(job, vigil, quiet=quiet, description=caption):
                    pass
                result = job.result()
                save(folder / f"{count}-layers_{size}-px_seed-{seed}.png", result.data)
                row.append((result.image, f"{caption}: {result.loss:.3g}"))
            rows.append(row)
        with atomic_file(sheet.expanduser()) as file:
            file.write(encode_image(contact_sheet(rows), sheet))
        say(f"{shown(sheet)}: {len(rows) * len(layers)} pictures, which are in {shown(folder)}/ too")
