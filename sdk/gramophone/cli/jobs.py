"""The commands `gramophone jobs`, which manage the jobs of a running server."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from .connect import Server, connect, quiet_option, running_server_option
from .console import note, say
from .encoding import check_encoding, quality_option
from .files import check_output, save, shown
from .options import given
from .signals import SignalGuard
from .top import top
from .watching import farewell, find, line, summary, warn, watch

_output = click.option("-o", "--output", metavar="FILE", help="Save the result here; - for standard output.")
_job_id = click.argument("job_id", metavar="JOB_ID")


@click.group()
def jobs() -> None:
    """List, show, watch, cancel, download and delete the jobs of a running server.

    JOB_ID can be the beginning of an id, if no other job's id begins the same way.
    """


jobs.add_command(top)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _MomentType(click.ParamType[datetime]):
    """A time before now, such as `90m`, `2h` or `3d`, or a date, with or without a time of day."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Returns the time; a value without a time zone is local time."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := re.fullmatch(r"(\d+)([smhd])", value):
                return datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2h, 3d, 2026-01-31 or 2026-01-31T18:30", param, ctx)


@jobs.command("list")
@running_server_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]),
    help="Only jobs in this state; repeat it for more.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["style", "content", "transfer"]),
    help="Only jobs of this kind; repeat it for more.",
)
@click.option("--model", metavar="NAME", help="Only jobs that use this model.")
@click.option("--owner", metavar="NAME", help="Only jobs of this client.")
@click.option(
    "--since",
    "created_after",
    type=_MomentType(),
    help="Only jobs accepted since this time: 90m, 2h or 3d ago, or a date.",
)
@click.option("--oldest-first", "order", flag_value="oldest_first", help="List the oldest job first.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def list_jobs(server: Server, limit: int, **filters: Any) -> None:
    """List jobs, by default the newest first."""
    with connect(server) as client:
        for job in client.jobs(limit=limit, **given(filters)):
            say(line(job))


@jobs.command()
@_job_id
@running_server_option
def show(job_id: str, server: Server) -> None:
    """Show a job."""
    with connect(server) as client:
        job = find(client, job_id).info()
        say(line(job))
        for name in ("created", "started", "ended"):
            if (moment := getattr(job, name)) is not None:
                say(f"  {name:8} {moment.astimezone():%Y-%m-%d %H:%M:%S}")
        if job.frame is not None:
            say(f"  loss     {job.frame.loss:.4g}")
            for term in job.frame.layer_losses:
                name = " ".join(part for part in (term.kind, term.style_loss, term.layer) if part)
                say(f"    {name}: {term.loss:.4g} x {term.weight:g}")
        if job.owner:
            say(f"  owner    {job.owner}")
        if job.priority:
            say(f"  priority {job.priority}")
        if job.attempts > 1:
            say(f"  attempts {job.attempts}")
        if job.error:
            say(f"  error    {job.error}")


@jobs.command("watch")
@_job_id
@running_server_option
@quiet_option
@_output
@quality_option
def watch_job(job_id: str, server: Server, quiet: bool, output: str | None, quality: int | None) -> None:
    """Watch a job until it ends, and save its result. Ctrl-C stops watching, but not the job."""
    if output is not None:
        check_output(Path(output), [])
        check_encoding(Path(output), quality)
    with connect(server) as client:
        job = find(client, job_id)
        with SignalGuard(cancels=False, farewell=lambda job: farewell(server, job, output)) as guard:
            for _ in watch(job, guard, quiet=quiet):
                pass
            result = job.result()
            if output is not None:
                save(Path(output), result.data, quality)
        warn(result)
        (note if output == "-" else say)(summary(result, shown(output or job.id)))


@jobs.command()
@_job_id
@running_server_option
def cancel(job_id: str, server: Server) -> None:
    """Cancel a job."""
    with connect(server) as client:
        find(client, job_id).cancel()


@jobs.command()
@_job_id
@running_server_option
@click.option("-o", "--output", metavar="FILE", required=True, help="Save the result here; - for standard output.")
@quality_option
def download(job_id: str, server: Server, output: str, quality: int | None) -> None:
    """Save the result of a job that has succeeded."""
    check_output(Path(output), [])
    check_encoding(Path(output), quality)
    with connect(server) as client:
        data = find(client, job_id).download()
        save(Path(output), data, quality)
        if output != "-":
            say(f"{shown(output)}: {Path(output).stat().st_size} bytes")


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@running_server_option
def delete(job_ids: tuple[str, ...], server: Server) -> None:
    """Delete jobs that have ended, and their results."""
    with connect(server) as client:
        # Find all jobs before the first is deleted, so that a wrong id deletes nothing.
        for job in {job.id: job for job in (find(client, job_id) for job_id in job_ids)}.values():
            job.delete()
