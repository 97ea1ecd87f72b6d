"""The commands `gramophone style`, `content` and `transfer`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import Client, Job, JobCancelledError, JobFailedError, Style
from ..grouped_help import GroupedCommand
from ..values import Frame
from . import background_server
from .batch import Item, paint_all
from .connect import Server, quiet_option, reach, server_option
from .console import StandardOutputError, note, say
from .encoding import check_encoding, quality_option
from .files import PICTURE, PICTURES, Folder, Picture, check_folders, check_output, expanded, plan, save, shown
from .ledger import file_of, key_of
from .options import LAYERS, PREVIEWS, flag, given, job_options, output_format
from .sentences import name_pictures
from .signals import SignalGuard
from .styles import names_of, style_options, styles_of
from .terminal_pictures import show, show_option
from .watching import farewell, print_watch_command, summary, warn, watch, watch_command

_Command = TypeVar("_Command", bound=Callable[..., Any])
# Options whose value can be a picture.
_FILES = ("init", "canvas_map")
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
previews_option = click.option(
    "--previews", type=click.Path(file_okay=False, path_type=Path), help="Save previews in this folder."
)
detach_option = click.option(
    "--detach", is_flag=True, help="Print the job's id and exit; the job continues on the server."
)


def contents_and_styles(
    pictures: Sequence[Picture | Folder], styles: Sequence[Picture], command: str = "gramophone transfer"
) -> tuple[list[Picture | Folder], list[Picture]]:
    """Splits the arguments of a command into contents and styles.

    Two arguments are the content, or a folder of contents, and the style. If styles are given with --style, all
    arguments are contents.

    Args:
        command: the command, for messages.

    Raises:
        click.UsageError: it is not clear which pictures are styles.
    """
    if styles:
        return list(pictures), list(styles)
    first, last = (shown(one.path if isinstance(one, Folder) else one) for one in (pictures[0], pictures[-1]))
    if len(pictures) == 2:
        if isinstance(pictures[1], Folder):
            raise click.UsageError(
                f"the style {last} is a folder; name a picture: {command} {first} {shown(pictures[1].pictures[0])}"
            )
        return [pictures[0]], [pictures[1]]
    if len(pictures) == 1:
        raise click.UsageError(f"a style is missing: {command} {first} STYLE, or {command} {first} --style STYLE")
    second = shown(expanded(pictures[1:2])[0])
    raise click.UsageError(
        f"which of the {len(pictures)} pictures are styles? Write styles with --style:\n"
        f"  several styles for one picture:   {command} {first} --style {second} --style {last}\n"
        f"  several pictures in one style:    {command} {first} {second} --style {last} -o painted/"
    )


@dataclass(frozen=True)
class Task:
    """A job to submit.

    Attributes:
        submit: submits it with the given options.
        output: path of its result.
        pictures: its pictures by the path of their field in the request, for messages.
        previews: folder for its previews; None for no previews.
        inputs: what it depends on beside the options, for `key_of`; empty for a job that is always painted.
    """

    submit: Callable[[Client, dict[str, Any]], Job]
    output: Path
    pictures: dict[str, Picture] = field(default_factory=dict)
    previews: Path | None = None
    inputs: tuple[Any, ...] = ()


@click.command(cls=GroupedCommand)
@click.argument("pictures", nargs=-1, required=True, type=PICTURE)
@click.option("--layers", type=LAYERS, help="1 to 5, or names, or name=weight, separated by commas.")
@style_options
@job_options
@_output
@quality_option
@previews_option
@show_option
@detach_option
@server_option
@quiet_option
def style(pictures: tuple[Picture, ...], output: str, previews: Path | None, **options: Any) -> None:
    """Make a texture with the style of PICTURES."""
    styles = styles_of(pictures, options)
    submit: Callable[[Client, dict[str, Any]], Job] = lambda client, chosen: client.style(styles, **chosen)  # noqa: E731
    run([Task(submit, Path(output), names_of(styles), previews)], options)


@click.command(cls=GroupedCommand)
@click.argument("pictures", nargs=-1, required=True, type=PICTURES, metavar="PICTURE...")
@click.option("--layer", "--layers", "layers", type=LAYERS, help="Names, or name=weight, separated by commas.")
@job_options
@_outputs
@quality_option
@previews_option
@show_option
@detach_option
@server_option
@quiet_option
def content(pictures: tuple[Picture | Folder, ...], output: str, previews: Path | None, **options: Any) -> None:
    """Reconstruct PICTURE from the feature maps of layers.

    \b
    Several pictures:  gramophone content FOLDER/ -o RECONSTRUCTED/

    Run again, the command skips the pictures that it has reconstructed with the same options.
    """
    submit = lambda picture: lambda client, chosen: client.content(picture, **chosen)  # noqa: E731
    run(_tasks(pictures, output, previews, submit), options)


@click.command(cls=GroupedCommand)
@click.argument("pictures", nargs=-1, required=True, type=PICTURES, metavar="CONTENT... [STYLE]")
@click.option("-s", "--style", "styles", multiple=True, type=PICTURE, help="A style; repeat it for more.")
@click.option("--content-layers", type=LAYERS, help="Names, or name=weight, separated by commas.")
@click.option("--style-layers", type=LAYERS, help="1 to 5, or names, or name=weight, separated by commas.")
@click.option("--content-weight", type=float, metavar="ALPHA", help="Weight of the content.")
@click.option("--style-weight", type=float, metavar="BETA", help="Weight of the style.")
@style_options
@job_options
@_outputs
@quality_option
@previews_option
@show_option
@detach_option
@server_option
@quiet_option
def transfer(
    pictures: tuple[Picture | Folder, ...],
    styles: tuple[Picture, ...],
    output: str,
    previews: Path | None,
    **options: Any,
) -> None:
    """Paint CONTENT in the style of STYLE.

    \b
    One content and one style:  gramophone transfer CONTENT STYLE
    Several styles:             gramophone transfer CONTENT --style A --style B
    Several contents:           gramophone transfer A B C --style STYLE -o PAINTED/
    All pictures of a folder:   gramophone transfer FOLDER/ STYLE -o PAINTED/

    Of several contents, some are painted at a time. Run again, the command skips those that it has painted with the
    same options, and waits for the jobs that are still on the server. The file .gramophone.json beside the results
    records them.
    """
    contents, chosen_styles = contents_and_styles(pictures, styles)
    sources = styles_of(chosen_styles, options)
    submit = lambda picture: lambda client, chosen: client.transfer(picture, sources, **chosen)  # noqa: E731
    run(_tasks(contents, output, previews, submit, sources), options)


def _tasks(
    arguments: Sequence[Picture | Folder],
    output: str,
    previews: Path | None,
    submit: Callable[[Picture], Callable[[Client, dict[str, Any]], Job]],
    styles: Sequence[Style] = (),
) -> list[Task]:
    """Returns the job of each content."""
    contents = expanded(arguments)
    several = len(contents) > 1 or any(isinstance(one, Folder) for one in arguments)
    paths = plan(contents, output)
    check_folders(arguments, paths)
    return [
        Task(
            submit(picture),
            path,
            {"content": picture} | names_of(styles),
            previews / path.stem if previews is not None and several else previews,
            ("transfer" if styles else "content", file_of(picture), list(styles)) if several else (),
        )
        for picture, path in zip(contents, paths, strict=True)
    ]


def run(tasks: Sequence[Task], options: dict[str, Any]) -> None:
    """Paints the pictures of a command, with its options, and saves the results."""
    server, quiet, detach = options.pop("server"), options.pop("quiet"), options.pop("detach")
    quality, shows = options.pop("quality"), options.pop("show")
    if detach and server.address is None and not background_server.keep_seconds():
        raise click.UsageError(_NO_LASTING_SERVER)
    _check(tasks, options, quality, detach=detach)
    with reach(server, quiet=quiet) as (client, lasting_server):
        if detach and lasting_server is None:
            raise click.UsageError(_NO_LASTING_SERVER)
        if tasks[0].inputs and not detach:
            items = [_item(client, task, _chosen(task, options)) for task in tasks]
            if not paint_all(client, items, lasting_server, quality, quiet=quiet, shows=shows):
                raise SystemExit(1)
            return
        for task in tasks:
            name_pictures({at: shown(picture) for at, picture in task.pictures.items()})
            chosen = _chosen(task, options)
            if detach:
                _print_detached(task.submit(client, chosen), task, lasting_server, quiet=quiet)
            else:
                _wait(client, chosen, task, lasting_server, quality, quiet=quiet, shows=shows)


def _chosen(task: Task, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a job, for Client."""
    return {**({} if task.previews else {"preview_every": 0}), **output_format(task.output), **given(options)}


def _item(client: Client, task: Task, chosen: dict[str, Any]) -> Item:
    pictures = {name: file_of(value) for name in _FILES if (value := chosen.get(name)) and _is_file(value)}
    return Item(
        lambda more: task.submit(client, {**chosen, **more}),
        task.output,
        task.pictures,
        key_of(*task.inputs, chosen | pictures),
        partial(_save_preview, task, chosen),
    )


def _is_file(value: Picture) -> bool:
    """Returns whether the value of an option is a picture, not one of its words."""
    return isinstance(value, bytes) or Path(value).expanduser().is_file()


def _save_preview(task: Task, chosen: dict[str, Any], frame: Frame) -> None:
    if task.previews and frame.preview_bytes:
        suffix = chosen.get("preview_format", "jpeg").replace("jpeg", "jpg")
        task.previews.mkdir(parents=True, exist_ok=True)
        (task.previews / f"{frame.iteration:06}.{suffix}").write_bytes(frame.preview_bytes)


def _check(tasks: Sequence[Task], options: dict[str, Any], quality: int | None, *, detach: bool) -> None:
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


def _print_detached(job: Job, task: Task, lasting_server: Server | None, *, quiet: bool) -> None:
    assert lasting_server is not None
    # Only the id goes to standard output, so that a script can read it.
    say(job.id)
    if not quiet:
        note(f"to save its result:  {watch_command(lasting_server, job, str(task.output))}")


def _wait(
    client: Client,
    chosen: dict[str, Any],
    task: Task,
    lasting_server: Server | None,
    quality: int | None,
    *,
    quiet: bool,
    shows: bool,
) -> None:
    output = str(task.output)
    with SignalGuard(cancels=True, farewell=lambda job: farewell(lasting_server, job, output)) as guard:
        job = task.submit(client, chosen)
        print_watch_command(lasting_server, job, output, quiet=quiet)
        with _noting_job(lasting_server, job, output):
            for frame in watch(job, guard, quiet=quiet):
                _save_preview(task, chosen, frame)
            result = job.result()
            save(task.output, result.data, quality)
    warn(result)
    (note if output == "-" else say)(summary(result, shown(task.output)))
    if shows:
        show(result.data)


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
