"""`gramophone style | content | transfer`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import Client, Job, JobCancelledError, JobFailedError, Style
from ..grouped_help import GroupedCommand
from . import kept
from .connect import Server, quiet_option, reach, server_option
from .console import StandardOutputError, note, say
from .encoding import check_encoding, quality_option
from .files import PICTURE, Picture, check_output, plan, save, shown
from .leaving import Vigil
from .options import LAYERS, PREVIEWS, flag, given, job_options, output_format
from .sentences import name_pictures
from .styles import names_of, style_options, styles_of
from .watching import farewell, greet, summary, warn, watch, way_back

_Command = TypeVar("_Command", bound=Callable[..., Any])
_output = click.option(
    "-o", "--output", metavar="FILE", default="out.png", show_default=True, help="The picture; - for standard output."
)
_outputs = click.option(
    "-o",
    "--output",
    metavar="FILE|FOLDER/",
    default="out.png",
    show_default=True,
    help="The picture; of several contents a folder, or a pattern such as '{stem}-painted.png'; - for standard output.",
)
_previews = click.option("--previews", type=click.Path(file_okay=False, path_type=Path), help="Save previews here.")
_detach = click.option("--detach", is_flag=True, help="Print the job's id, and leave the job to the server.")


def contents_and_styles(
    pictures: Sequence[Picture], styles: Sequence[Picture], command: str = "gramophone transfer"
) -> tuple[list[Picture], list[Picture]]:
    """Tells contents and styles apart: two pictures are one of each; with --style, all others are contents.

    Raises:
        click.UsageError: it cannot be told which are which.
    """
    if styles:
        return list(pictures), list(styles)
    if len(pictures) == 2:
        return [pictures[0]], [pictures[1]]
    first, last = shown(pictures[0]), shown(pictures[-1])
    if len(pictures) == 1:
        raise click.UsageError(f"a style is missing: {command} {first} STYLE, or {command} {first} --style STYLE")
    raise click.UsageError(
        f"which of the {len(pictures)} pictures are styles? Write styles with --style:\n"
        f"  several styles for one picture:   {command} {first} --style {shown(pictures[1])} --style {last}\n"
        f"  several pictures in one style:    {command} {first} {shown(pictures[1])} --style {last} -o painted/"
    )


@dataclass(frozen=True)
class _Task:
    """A job to submit, where its result goes, and what its pictures are called, by the fields of the request."""

    submit: Callable[[Client, dict[str, Any]], Job]
    output: Path
    pictures: dict[str, Picture] = field(default_factory=dict)
    previews: Path | None = None


@click.command(cls=GroupedCommand)
@click.argument("pictures", nargs=-1, required=True, type=PICTURE)
@click.option("--layers", type=LAYERS, help="1 to 5, or names, or name=weight, separated by commas.")
@style_options
@job_options
@_output
@quality_option
@_previews
@_detach
@server_option
@quiet_option
def style(pictures: tuple[Picture, ...], output: str, previews: Path | None, **options: Any) -> None:
    """Make a texture with the style of PICTURES."""
    styles = styles_of(pictures, options)
    submit: Callable[[Client, dict[str, Any]], Job] = lambda client, chosen: client.style(styles, **chosen)  # noqa: E731
    _paint([_Task(submit, Path(output), names_of(styles), previews)], options)


@click.command(cls=GroupedCommand)
@click.argument("picture", type=PICTURE)
@click.option("--layer", "--layers", "layers", type=LAYERS, help="Names, or name=weight, separated by commas.")
@job_options
@_output
@quality_option
@_previews
@_detach
@server_option
@quiet_option
def content(picture: Picture, output: str, previews: Path | None, **options: Any) -> None:
    """Make a picture from what a layer knows of PICTURE."""
    submit: Callable[[Client, dict[str, Any]], Job] = lambda client, chosen: client.content(picture, **chosen)  # noqa: E731
    _paint([_Task(submit, Path(output), {"content": picture}, previews)], options)


@click.command(cls=GroupedCommand)
@click.argument("pictures", nargs=-1, required=True, type=PICTURE, metavar="CONTENT... [STYLE]")
@click.option("-s", "--style", "styles", multiple=True, type=PICTURE, help="A style; may be given again for more.")
@click.option("--content-layers", type=LAYERS, help="Names, or name=weight, separated by commas.")
@click.option("--style-layers", type=LAYERS, help="1 to 5, or names, or name=weight, separated by commas.")
@click.option("--content-weight", type=float, metavar="ALPHA", help="Weight of the content.")
@click.option("--style-weight", type=float, metavar="BETA", help="Weight of the style.")
@style_options
@job_options
@_outputs
@quality_option
@_previews
@_detach
@server_option
@quiet_option
def transfer(
    pictures: tuple[Picture, ...], styles: tuple[Picture, ...], output: str, previews: Path | None, **options: Any
) -> None:
    """Paint CONTENT in the style of STYLE.

    \b
    One content and one style:  gramophone transfer CONTENT STYLE
    Several styles:             gramophone transfer CONTENT --style A --style B
    Several contents:           gramophone transfer A B C --style STYLE -o FOLDER/
    """
    contents, chosen_styles = contents_and_styles(pictures, styles)
    sources = styles_of(chosen_styles, options)
    tasks = []
    for picture, path in zip(contents, plan(contents, output), strict=True):
        folder = previews / path.stem if previews is not None and len(contents) > 1 else previews
        submit = _transfer(picture, sources)
        tasks.append(_Task(submit, path, {"content": picture} | names_of(sources), folder))
    _paint(tasks, options)


def _transfer(picture: Picture, sources: list[Style]) -> Callable[[Client, dict[str, Any]], Job]:
    return lambda client, chosen: client.transfer(picture, sources, **chosen)


def _paint(tasks: Sequence[_Task], options: dict[str, Any]) -> None:
    server, quiet, detach = options.pop("server"), options.pop("quiet"), options.pop("detach")
    quality = options.pop("quality")
    if detach and server.address is None and not kept.keep_seconds():
        raise click.UsageError("--detach needs a server that stays: give --server ADDRESS (`gramophone serve`)")
    _check(tasks, options, quality, detach=detach)
    with reach(server, quiet=quiet) as (client, place):
        if detach and place is None:
            raise click.UsageError("--detach needs a server that stays: give --server ADDRESS (`gramophone serve`)")
        for task in tasks:
            name_pictures({at: shown(picture) for at, picture in task.pictures.items()})
            no_previews = {} if task.previews else {"preview_every": 0}
            chosen = {**no_previews, **output_format(task.output), **given(options)}
            if detach:
                _leave(task.submit(client, chosen), task, place, quiet=quiet)
            else:
                _wait(client, chosen, task, place, quality, quiet=quiet)


def _check(tasks: Sequence[_Task], options: dict[str, Any], quality: int | None, *, detach: bool) -> None:
    if detach and quality is not None:
        raise click.UsageError("--detach leaves before there is a picture; give --quality to `gramophone jobs watch`")
    if detach and any(task.previews for task in tasks):
        raise click.UsageError("--detach leaves before there are previews; leave --previews out")
    if detach and options.get("on_disconnect") == "cancel":
        raise click.UsageError("--detach leaves the job to the server, and --on-disconnect cancel ends it: give one")
    if len(tasks) > 1 and options.get("request_id") is not None:
        raise click.UsageError(f"--request-id names one job, but these are {len(tasks)}; paint them one by one")
    if lost := [flag(name) for name in sorted(PREVIEWS) if options.get(name) is not None and not tasks[0].previews]:
        raise click.UsageError(f"{lost[0]} is of the previews, which --previews FOLDER saves; give that too")
    inputs = [picture for task in tasks for picture in (*task.pictures.values(), options.get("init"))]
    for task in tasks:
        check_output(task.output, [picture for picture in inputs if picture is not None])
    # All have the same suffix.
    check_encoding(tasks[0].output, quality, options.get("bit_depth"))


def _leave(job: Job, task: _Task, place: Server | None, *, quiet: bool) -> None:
    assert place is not None
    # Alone on standard output, so that a script can take it from there.
    say(job.id)
    if not quiet:
        note(f"to save its result:  {way_back(place, job, str(task.output))}")


def _wait(
    client: Client, chosen: dict[str, Any], task: _Task, place: Server | None, quality: int | None, *, quiet: bool
) -> None:
    output = str(task.output)
    suffix = chosen.get("preview_format", "jpeg").replace("jpeg", "jpg")
    with Vigil(cancels=True, farewell=lambda job: farewell(place, job, output)) as vigil:
        job = task.submit(client, chosen)
        greet(place, job, output, quiet=quiet)
        with _kept(place, job, output):
            for frame in watch(job, vigil, quiet=quiet):
                if task.previews and frame.preview_bytes:
                    task.previews.mkdir(parents=True, exist_ok=True)
                    (task.previews / f"{frame.iteration:06}.{suffix}").write_bytes(frame.preview_bytes)
            result = job.result()
            save(task.output, result.data, quality)
    warn(result)
    (note if output == "-" else say)(summary(result, shown(task.output)))


@contextlib.contextmanager
def _kept(place: Server | None, job: Job, output: str) -> Iterator[None]:
    """Says how to come back to the job when something goes wrong at this end."""
    try:
        yield
    except (JobFailedError, JobCancelledError, StandardOutputError):
        raise
    except Exception:
        if place is not None:
            note(f"job {job.id} is not lost:  {way_back(place, job, output)}")
        raise
