"""Progress, results and lookup of the jobs that a command waits for."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from .. import Client, Job, JobInfo, NotFoundError
from ..values import Frame, Result
from .connect import Server
from .console import note
from .sentences import option_of
from .signals import SignalGuard

# Maximum number of jobs to list if several ids have the same beginning.
_SHOWN = 5


def watch(job: Job, guard: SignalGuard, *, quiet: bool, description: str = "") -> Iterator[Frame]:
    """Yields the frames of a job and shows a progress bar."""
    from tqdm import tqdm

    with (
        guard.waiting_for(job),
        tqdm(desc=description or None, unit="it", disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True) as bar,
    ):
        for frame in job:
            guard.check()
            bar.total = frame.iterations
            bar.set_postfix(loss=f"{frame.loss:.4g}", refresh=False)
            bar.update(frame.iteration - bar.n)
            yield frame


def summary(result: Result, path: str) -> str:
    """Returns one line about the result of a job."""
    # Prefer the recipe's width and height: Pillow cannot decode a TIFF with 16 bits per channel.
    width, height = (result.recipe.get(side) or getattr(result.image, side) for side in ("width", "height"))
    return (
        f"{path}: {width}x{height}, loss {result.loss:.4g} after {result.iterations} iterations, "
        f"{result.timings.optimize:.1f} s, model {result.model}"
    )


def warn(result: Result) -> None:
    """Prints the warnings in the recipe to standard error, with the command's file names instead of field names."""
    for warning in result.recipe.get("warnings", []):
        field, space, rest = str(warning).partition(" ")
        note(f"warning: {option_of(field) if '.' in field else field}{space}{rest}")


def watch_command(server: Server, job: Job, output: str | None = None) -> str:
    """Returns the command that watches a job again."""
    return server.command("jobs", "watch", job.id, *(["-o", output] if output else []))


def farewell(server: Server | None, job: Job, output: str | None = None) -> str:
    """Returns the message about a job that continues after the command ends.

    Args:
        server: the server for later commands; None if the server ends with the command.
        output: path for the result.
    """
    if server is None:
        return f"job {job.id} ends, because its server ends with this command"
    return (
        f"job {job.id} continues\n"
        f"  to watch it again:  {watch_command(server, job, output)}\n"
        f"  to cancel it:       {server.command('jobs', 'cancel', job.id)}"
    )


def print_watch_command(server: Server | None, job: Job, output: str | None, *, quiet: bool) -> None:
    """Prints the command that watches a job again to standard error."""
    if server is not None and not quiet:
        note(f"job {job.id}: {watch_command(server, job, output)}")


def find(client: Client, beginning: str) -> Job:
    """Returns the job with this id, or the only job whose id has this beginning.

    Raises:
        click.BadParameter: there is no such job, or there are several.
    """
    if beginning.strip():
        try:
            return client.job(beginning)
        except NotFoundError:
            pass
    known = [job for job in client.jobs() if beginning.strip() and job.id.startswith(beginning)]
    if len(known) == 1:
        return client.job(known[0].id)
    if not known:
        raise click.BadParameter(
            f"there is no job with the id {beginning!r}, nor with an id that begins so; "
            "`gramophone jobs list` lists the jobs",
            param_hint="'JOB_ID'",
        )
    more = [f"  ... and {len(known) - _SHOWN} more"] if len(known) > _SHOWN else []
    lines = [*(f"  {line(job)}" for job in known[:_SHOWN]), *more]
    raise click.BadParameter(
        f"{len(known)} jobs have ids that begin with {beginning}; give more characters:\n" + "\n".join(lines),
        param_hint="'JOB_ID'",
    )


def line(job: JobInfo) -> str:
    """Returns one line about a job."""
    progress = f"{job.frame.iteration}/{job.frame.iterations}" if job.frame else ""
    return f"{job.id}  {job.kind:8}  {job.state:9}  {progress:>13}  {job.model}"
