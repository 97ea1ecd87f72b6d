"""The command `gramophone sweep`: textures for all combinations of layers, seeds and sizes on one contact sheet."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import GramophoneError, Job
from ..contact_sheet import contact_sheet
from ..files import atomic_file
from ..grouped_help import GroupedCommand
from ..saving import encode_image
from .connect import Server, quiet_option, reach, server_option
from .console import say
from .files import PICTURE, Picture, check_output, save, shown
from .options import PREVIEWS, IntegerType, given, with_options
from .sentences import name_pictures
from .signals import SignalGuard
from .watching import farewell, watch

# Number of jobs that are submitted and not yet saved: the server computes some of them together.
_AT_ONCE = 8

_NUMBER = IntegerType()
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Numbers(click.ParamType[list[int]]):
    """Integers separated by commas: `0,1,2`."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Returns the numbers."""
        if isinstance(value, list):
            return value
        try:
            return [_NUMBER.convert(part, param, ctx) for part in value.split(",")]
        except click.BadParameter as error:
            self.fail(f"{error.message}; write numbers with commas between them, such as 0,1,2", param, ctx)


# Options that a sweep sets itself, or that have no effect on it.
_WITHOUT = PREVIEWS | {"canvas_map", "size", "seed", "result_format", "on_disconnect", "request_id"}


def _options(command: _Command) -> _Command:
    return with_options(command, _WITHOUT)


@click.command(cls=GroupedCommand)
@click.argument("picture", type=PICTURE)
@click.option("--layers", type=_Numbers(), default=[1, 2, 3, 4, 5], help="Numbers of layers.  [default: 1,2,3,4,5]")
@click.option("--seeds", type=_Numbers(), default=[0], help="Seeds of the noise.  [default: 0]")
@click.option("--sizes", type=_Numbers(), default=[224], help="Sizes of the canvas in pixels.  [default: 224]")
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
    """Reconstruct the style of PICTURE for all combinations of layers, seeds and sizes, on one contact sheet.

    Each result is also saved as a file in a folder beside the sheet. Each row of the sheet is a size and a seed, each
    column a number of layers. Ctrl-C cancels the jobs and ends the sweep. The server computes several jobs together;
    with --reproducible it runs them one by one, and each picture has the bytes that `gramophone style` gives.
    """
    chosen = {"reproducible": False, **given(options)}
    sheet = Path(output)
    if output == "-":
        raise click.BadParameter(
            "a sweep writes several files, so it needs the name of the contact sheet", param_hint="'-o' / '--output'"
        )
    check_output(sheet, [picture])
    folder = sheet.with_suffix("")
    check_output(folder / "1.png", [picture])
    name_pictures({"styles[0]": shown(picture)})
    with (
        reach(server, quiet=quiet) as (client, lasting_server),
        SignalGuard(cancels=True, farewell=lambda job: farewell(lasting_server, job)) as guard,
    ):

        def submit(size: int, seed: int, count: int) -> Job:
            return client.style(picture, layers=count, size=size, seed=seed, preview_every=0, **chosen)

        pictures = []
        with contextlib.closing(_ahead(submit, itertools.product(sizes, seeds, layers))) as jobs:
            for (size, seed, count), job in jobs:
                caption = f"{count} layers, {size} px, seed {seed}"
                for _ in watch(job, guard, quiet=quiet, description=caption):
                    pass
                result = job.result()
                save(folder / f"{count}-layers_{size}-px_seed-{seed}.png", result.data)
                pictures.append((result.image, f"{caption}: {result.loss:.3g}"))
        rows = [pictures[start : start + len(layers)] for start in range(0, len(pictures), len(layers))]
        with atomic_file(sheet.expanduser()) as file:
            file.write(encode_image(contact_sheet(rows), sheet))
        say(f"{shown(sheet)}: {len(rows) * len(layers)} pictures, also saved in {shown(folder)}/")


def _ahead(
    submit: Callable[[int, int, int], Job], combinations: Iterable[tuple[int, int, int]]
) -> Generator[tuple[tuple[int, int, int], Job]]:
    """Yields each combination with its job, and submits up to `_AT_ONCE` jobs ahead; cancels those at an early end."""
    submitted: deque[tuple[tuple[int, int, int], Job]] = deque()
    try:
        for combination in combinations:
            submitted.append((combination, submit(*combination)))
            if len(submitted) == _AT_ONCE:
                yield submitted.popleft()
        while submitted:
            yield submitted.popleft()
    finally:
        for _, job in submitted:
            with contextlib.suppress(GramophoneError):
                job.cancel()
