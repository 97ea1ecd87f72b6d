"""The commands `gramophone style`, `content` and `transfer`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import Client, Job, JobCancelledError, JobFailedError, Style
from ..grouped_help import GroupedCommand
from . import background_server
from .connect import Server, quiet_option, reach, server_option
from .console import StandardOutputError, note, say
from .encoding import check_encoding, quality_option
from .files import PICTURE, Picture, check_output, plan, save, shown
from .options import LAYERS, PREVIEWS, flag, given, job_options, output_format
from .sentences import name_pictures
from .signals import SignalGuard
from .styles import names_of, style_options, styles_of
from .watching import farewell, print_watch_command, summary, warn, watch, watch_command

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NO_LASTING_SERVER = "--detach needs a server that keeps running: give --server ADDRESS (`gramophone serve`)"
_output = click.option(
    "-o", "--output", metavar="FILE", default="out.png", show_default=True, help="The result; - for standard output."
)
_outputs = click.option(
    "-o",
    "--output",
    metavar="FILE|FOLDER/",
    default="out.png",
    show_default=True,
    help="The result; for several contents a folder or a pattern such as '{stem}-painted.png'; - for standard output.",
)
_previews = click.option(
    "--previews", type=click.Path(file_okay=False, path_type=Path), help="Save previews in this folder."
)
_detach = click.option("--detach", is_flag=True, help="Print the job's id and exit; the job continues on the server.")


def contents_and_styles(
    pictures: Sequence[Picture], styles: Sequence[Picture], command: str = "gramophone transfer"
) -> tuple[list[Picture], list[Picture]]:
    """Splits the pictures of a command into contents and styles.

    Two pictures are a content and a style. If styles are given with --style, all arguments are contents.

    Args:
        command: the command, for messages.

    Raises:
        click.UsageError: it is not clear which pictures are styles.
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
    """A job to submit.

    Attributes:
        submit: submits it with the given options.
        output: path of its result.
        pictures: its pictures by the path of their field in the request, for messages.
        previews: folder for its previews; None for no previews.
    """

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
    """Reconstruct PICTURE from the feature maps of layers."""
    submit: Callable[[Client, dict[str, Any]], Job] = lambda client, chosen: client.content(picture, **chosen)  # noqa: E731
    _paint([_Task(submit, Path(output), {"content": picture}, previews)], options)


@click.command(cls=GroupedCommand)
@click.argument("pictures", nargs=-1, required=True, type=PICTURE, metavar="CONTENT... [STYLE]")
@click.option("-s", "--style", "styles", multiple=True, type=PICTURE, help="A style; repeat it for more.")
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
    if detach and server.address is None and not background_server.keep_seconds():
        raise click.UsageError(_NO_LASTING_SERVER)
    _check(tasks, options, quality, detach=detach)
    with reach(server, quiet=quiet) as (client, lasting_server):
        if detach and lasting_server is None:
            raise click.UsageError(_NO_LASTING_SERVER)
        for task in tasks:
            name_pictures({at: shown(picture) for at, picture in task.pictures.items()})
            no_previews = {} if task.previews else {"preview_every": 0}
            chosen = {**no_previews, **output_format(task.output), **given(options)}
            if detach:
                _print_detached(task.submit(client, chosen), task, lasting_server, quiet=quiet)
            else:
                _wait(client, chosen, task, lasting_server, quality, quiet=quiet)


def _check(tasks: Sequence[_Task], options: dict[str, Any], quality: int | None, *, detach: bool) -> None:
    if detach and quality is not None:
        raise click.UsageError("--detach exits before there is a result; give --quality to `gramophone jobs watch`")
    if detach and any(task.previews for task in tasks):
        raise click.UsageError("--detach exits before there are previews; leave out --previews")
    if detach and options.get("on_disconnect") == "cancel":
        raise click.UsageError(
            "--on-disconnect cancel would cancel the job that --detach leaves running; give only one"
        )
    if len(tasks) > 1 and options.get("request_id") is not None:
        raise click.UsageError(f"--request-id names one job, but there are {len(tasks)}; paint them one by one")
    if unused := [flag(name) for name in sorted(PREVIEWS) if options.get(name) is not None and not tasks[0].previews]:
        raise click.UsageError(f"{unused[0]} has no effect without --previews FOLDER; give both")
    inputs = [
        picture
        for task in tasks
        for picture in (*task.pictures.values(), options.get("init"), options.get("canvas_map"))
    ]
    for task in tasks:
        check_output(task.output, [picture for picture in inputs if picture is not None])
    # All outputs have the same suffix.
    check_encoding(tasks[0].output, quality, options.get("bit_depth"))


def _print_detached(job: Job, task: _Task, lasting_server: Server | None, *, quiet: bool) -> None:
    assert lasting_server is not None
    # Only the id goes to standard output, so that a script can read it.
    say(job.id)
    if not quiet:
        note(f"to save its result:  {watch_command(lasting_server, job, str(task.output))}")


def _wait(
    client: Client,
    chosen: dict[str, Any],
    task: _Task,
    lasting_server: Server | None,
    quality: int | None,
    *,
    quiet: bool,
) -> None:
    output = str(task.output)
    suffix = chosen.get("preview_format", "jpeg").replace("jpeg", "jpg")
    with SignalGuard(cancels=True, farewell=lambda job: farewell(lasting_server, job, output)) as guard:
        job = task.submit(client, chosen)
        print_watch_command(lasting_server, job, output, quiet=quiet)
        with _noting_job(lasting_server, job, output):
            for frame in watch(job, guard, quiet=quiet):
                if task.previews and frame.preview_bytes:
                    task.previews.mkdir(parents=True, exist_ok=True)
                    (task.previews / f"{frame.iteration:06}.{suffix}").write_bytes(frame.preview_bytes)
            result = job.result()
            save(task.output, result.data, quality)
    warn(result)
    (note if output == "-" else say)(summary(result, shown(task.output)))


@contextlib.contextmanager
def _noting_job(lasting_server: Server | None, job: Job, output: str) -> Iterator[None]:
    """Prints the command to watch the job again if the block fails for a reason other than the job itself."""
    try:
        yield
    except (JobFailedError, JobCancelledError, StandardOutputError):
        raise
    except Exception:
        if lasting_server is not None:
            note(f"job {job.id} is still on the server; to watch it:  {watch_command(lasting_server, job, output)}")
        raise
