"""The command `gramophone again`, which paints from the recipe of a result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .. import Uploaded, read_recipe
from ..grouped_help import GroupedCommand
from . import paint
from .connect import quiet_option, server_option
from .console import note
from .encoding import quality_option
from .files import PICTURE, PICTURES, Folder, Picture, expanded, shown
from .options import given, job_options
from .recipes import again as job_of
from .recipes import differences, files_in
from .terminal_pictures import show_option

# Options that are not of the job.
_OWN = ("server", "quiet", "detach", "quality", "show")


@click.command(cls=GroupedCommand)
@click.argument("result", type=PICTURE)
@click.argument("pictures", nargs=-1, type=PICTURES)
@job_options
@click.option("-o", "--output", metavar="FILE", help="The new result.  [default: RESULT with a number, out-2.png]")
@quality_option
@paint.previews_option
@show_option
@paint.detach_option
@server_option
@quiet_option
def again(
    result: Picture,
    pictures: tuple[Picture | Folder, ...],
    output: str | None,
    previews: Path | None,
    **options: Any,
) -> None:
    """Paint again from the recipe in RESULT, with the given options changed.

    \b
    Another seed:   gramophone again out.png --seed 7
    A larger one:   gramophone again out.png --size 1024 -o large.png

    The recipe has the hashes of the pictures. They are looked for among PICTURES, which can be folders, then beside
    RESULT, in the current folder, and on the server.
    """
    try:
        recipe = read_recipe(result)
        job = job_of(recipe, _candidates(result, pictures))
    except ValueError as error:
        raise click.BadParameter(f"{shown(result)}: {error}", param_hint="'RESULT'") from None
    path = _free(result) if output is None else Path(output)
    names: dict[str, Any] = {at: _name(at, picture) for at, picture in job.pictures.items()}
    for name in (names[at] for at, picture in job.pictures.items() if isinstance(picture, Uploaded)):
        note(f"{name} is none of the files here; if the server lacks it: gramophone again {shown(result)} FILE")
    changed = given({name: value for name, value in options.items() if name not in _OWN})
    detached = options["detach"]
    paint.run([paint.Task(job.submit, path, names, previews)], options)
    if not detached and str(path) != "-" and (parts := differences(recipe, read_recipe(path), changed)):
        note(f"the recipe of {shown(path)} differs from that of {shown(result)} in {', '.join(parts)}")


def _candidates(result: Picture, pictures: tuple[Picture | Folder, ...]) -> Iterator[Path]:
    """Yields the files among which the pictures are looked for."""
    yield from (Path(picture).expanduser() for picture in expanded(pictures) if isinstance(picture, str))
    if isinstance(result, str):
        yield from files_in(Path(result).expanduser().parent)
    yield from files_in(Path())


def _free(result: Picture) -> Path:
    """Returns the first path that is free: out-2.png, out-3.png and so on."""
    place = Path(result) if isinstance(result, str) else Path("out.png")
    paths = (place.with_stem(f"{place.stem}-{number}") for number in itertools.count(2))
    return next(path for path in paths if not path.expanduser().exists())


def _name(at: str, picture: Picture | Uploaded) -> Picture:
    """Returns the name of a picture in messages."""
    if isinstance(picture, Uploaded):
        return f"the {at.partition('[')[0].rstrip('s')} picture (SHA-256 {picture.sha256[:12]}…)"
    return picture
