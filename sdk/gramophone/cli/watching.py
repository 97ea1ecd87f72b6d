"""Jobs that a command waits for: their progress, their results, and finding them again."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from .. import Client, Job, JobInfo, NotFoundError
from ..values import Frame, Result
from .connect import Server
from .console import note
from .leaving import Vigil
from .sentences import option_of

# Candidates that are shown for the beginning of an id that several have.
_SHOWN = 5


def watch(job: Job, vigil: Vigil, *, quiet: bool, description: str = "") -> Iterator[Frame]:
    """The frames of a job, drawn as a progress bar while they pass."""
    from tqdm import tqdm

    with (
        vigil.over(job),
        tqdm(desc=description or None, unit="it", disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True) as bar,
    ):
        for frame in job:
            vigil.check()
            bar.total = frame.iterations
            bar.set_postfix(loss=f"{frame.loss:.4g}", refresh=False)
            bar.update(frame.iteration - bar.n)
            yield frame


def summary(result: Result, path: str) -> str:
    """One line on what a job made."""
    # Not of the picture, if the recipe has it: Pillow does not decode a TIFF of 16 bits a channel.
    width, height = (result.recipe.get(side) or getattr(result.image, side) for side in ("width", "height"))
    return (
        f"{path}: {width}x{height}, loss {result.loss:.4g} after {result.iterations} iterations, "
        f"{result.timings.optimize:.1f} s, model {result.model}"
    )


def warn(result: Result) -> None:
    """Says what the recipe warns of, on standard error, with the names of the files that the command was given."""
    for warning in result.recipe.get("warnings", []):
        field, space, rest = str(warning).partition(" ")
        note(f"warning: {option_of(field) if '.' in field else field}{space}{rest}")


def way_back(server: Server, job: Job, output: str | None = None) -> str:
    """The command that comes back to a job."""
    return server.command("jobs", "watch", job.id, *(["-o", output] if output else []))


def farewell(server: Server | None, job: Job, output: str | None = None) -> str:
    """What becomes of a job that is left, for a person."""
    if server is None:
        return f"job {job.id} ends with this command, whose server it was on"
    return (
        f"job {job.id} goes on\n"
        f"  to come back to it:  {way_back(server, job, output)}\n"
        f"  to stop it:          {server.command('jobs', 'cancel', job.id)}"
    )


def greet(server: Server | None, job: Job, output: str | None, *, quiet: bool) -> None:
    """Says how to come back to a job, on standard error."""
    if server is not None and not quiet:
        note(f"job {job.id}: {way_back(server, job, output)}")


def find(client: Client, beginning: str) -> Job:
    """The job of that id, or the only one whose id begins so.

    Raises:
        click.BadParameter: there is none, or there are several.
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
            f"{beginning!r} is no job that is known here, nor the beginning of one's id; "
            "`gramophone jobs list` shows them",
            param_hint="'JOB_ID'",
        )
    more = [f"  ... and {len(known) - _SHOWN} more"] if len(known) > _SHOWN else []
    lines = [*(f"  {line(job)}" for job in known[:_SHOWN]), *more]
    raise click.BadParameter(
        f"{len(known)} jobs have ids that begin with {beginning}; give more of it:\n" + "\n".join(lines),
        param_hint="'JOB_ID'",
    )


def line(job: JobInfo) -> str:
    """One line on a job."""
    progress = f"{job.frame.iteration}/{job.frame.iterations}" if job.frame else ""
    return f"{job.id}  {job.kind:8}  {job.state:9}  {progress:>13}  {job.model}"
