"""`gramophone jobs`: what a running server is doing."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from .. import JobInfo
from .connect import Server, connect, quiet_option, running_server_option, summary, watch
from .options import given, write
from .top import top


@click.group()
def jobs() -> None:
    """List, show, watch, cancel, download and delete the jobs of a running server."""


jobs.add_command(top)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _MomentType(click.ParamType[datetime]):
    """`90m`, `2h` or `3d` ago, or a date, with a time or without."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> datetime:
        """The moment, in local time where the value names no time zone."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := re.fullmatch(r"(\d+)([smhd])", value):
                return datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2h, 3d, 2026-01-31 or 2026-01-31T18:30", param, context)


@jobs.command("list")
@running_server_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]),
    help="Only these.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["style", "content", "transfer"]),
    help="Only these.",
)
@click.option("--model", metavar="NAME", help="Only those of this model.")
@click.option("--owner", metavar="NAME", help="Only those of this client.")
@click.option("--since", "created_after", type=_MomentType(), help="Only those since 90m, 2h, 3d ago, or a date.")
@click.option("--oldest-first", "order", flag_value="oldest_first", help="In the order in which they came.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def list_jobs(server: Server, limit: int, **filters: Any) -> None:
    """List jobs, the newest first."""
    with connect(server) as client:
        for job in client.jobs(limit=limit, **given(filters)):
            click.echo(_line(job))


@jobs.command()
@click.argument("job_id")
@running_server_option
def show(job_id: str, server: Server) -> None:
    """Show a job."""
    with connect(server) as client:
        job = client.job(job_id).info()
        click.echo(_line(job))
        for name in ("created", "started", "ended"):
            if (moment := getattr(job, name)) is not None:
                click.echo(f"  {name:8} {moment.astimezone():%Y-%m-%d %H:%M:%S}")
        if job.frame is not None:
            click.echo(f"  loss     {job.frame.loss:.4g}")
            for term in job.frame.layer_losses:
                click.echo(f"    {term.kind} {term.layer}: {term.loss:.4g} x {term.weight:g}")
        if job.owner:
            click.echo(f"  owner    {job.owner}")
        if job.priority:
            click.echo(f"  priority {job.priority}")
        if job.attempts > 1:
            click.echo(f"  attempts {job.attempts}")
        if job.error:
            click.echo(f"  error    {job.error}")


@jobs.command("watch")
@click.argument("job_id")
@running_server_option
@quiet_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Save the result here.")
def watch_job(job_id: str, server: Server, quiet: bool, output: Path | None) -> None:
    """Watch a job to its end, and save its result."""
    with connect(server) as client:
        job = client.job(job_id)
        for _ in watch(job, quiet=quiet):
            pass
        result = job.result()
        if output is not None:
            write(output, result.data)
        click.echo(summary(result, str(output or job_id)))


@jobs.command()
@click.argument("job_id")
@running_server_option
def cancel(job_id: str, server: Server) -> None:
    """Cancel a job."""
    with connect(server) as client:
        client.job(job_id).cancel()


@jobs.command()
@click.argument("job_id")
@running_server_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def download(job_id: str, server: Server, output: Path) -> None:
    """Save the result of a job that has succeeded."""
    with connect(server) as client:
        write(output, client.job(job_id).download())
        click.echo(f"{output}: {output.stat().st_size} bytes")


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@running_server_option
def delete(job_ids: tuple[str, ...], server: Server) -> None:
    """Have the server forget jobs that have ended, and their results."""
    with connect(server) as client:
        for job_id in job_ids:
            client.job(job_id).delete()


def _line(job: JobInfo) -> str:
    progress = f"{job.frame.iteration}/{job.frame.iterations}" if job.frame else ""
    return f"{job.id}  {job.kind:8}  {job.state:9}  {progress:>13}  {job.model}"
