"""`gramophone jobs`: what a running server is doing."""

from __future__ import annotations

from pathlib import Path

import click

from .. import JobInfo
from .connect import Server, connect, quiet_option, running_server_option, summary, watch
from .options import write


@click.group()
def jobs() -> None:
    """List, show, watch and cancel the jobs of a running server."""


@jobs.command("list")
@running_server_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]),
    help="Only these.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def list_jobs(server: Server, states: tuple[str, ...], limit: int) -> None:
    """List jobs, the newest first."""
    with connect(server) as client:
        for job in client.jobs(states=states, limit=limit):
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


def _line(job: JobInfo) -> str:
    progress = f"{job.frame.iteration}/{job.frame.iterations}" if job.frame else ""
    return f"{job.id}  {job.kind:8}  {job.state:9}  {progress:>13}  {job.model}"
