"""`gramophone serve`."""

import asyncio
import os
from pathlib import Path

import click

from gramophone.credentials import is_loopback

from ..api.connections import raise_descriptor_limit
from ..api.memory import set_up_allocator
from ..api.server import ServerConfig
from ..logs import Format, configure
from ..models.store import UnknownModelError
from ..observability.instruments import Sight
from ..reading.limits import Limits
from ..security.tls import Security, SecurityError, is_unix
from ..security.tokens import TokenFileError
from ..serving import Stay, run
from ..stopping import Stopping
from ..storage.folder import DataFolderError, default_data_folder
from ..storage.quotas import Retention
from .values import Number, devices, host, memory, size, threads

_DEFAULT = ServerConfig()
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--host", default=_DEFAULT.host, show_default=True, callback=host, help="Address to listen on, or unix:PATH."
)
@click.option("--port", default=_DEFAULT.port, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    callback=devices,
    help='"cpu", "cuda:0", …, one worker each.  [default: auto]',
)
@click.option(
    "--threads", default=0, type=click.IntRange(0), callback=threads, help="CPU threads a worker.  [default: all]"
)
@click.option("--memory", metavar="SIZE", callback=memory, help="Most a worker may hold, such as 3GB.  [default: all]")
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of models.")
@click.option("--default-model", default=_DEFAULT.default_model, show_default=True, help="For requests that name none.")
@click.option(
    "--max-pixels", default=Limits.max_pixels, show_default=True, type=click.IntRange(1), help="Of a picture."
)
@click.option(
    "--decode-memory",
    metavar="SIZE",
    default="720MiB",
    show_default=True,
    callback=size,
    help="For all pictures that are being decoded.",
)
@click.option(
    "--max-queued", default=Limits.max_queued, show_default=True, type=click.IntRange(1), help="Jobs waiting."
)
@click.option(
    "--max-queued-per-client",
    type=click.IntRange(1),
    help="Jobs of one client waiting.  [default: 3/4 of --max-queued, or all without --tokens or --client-ca]",
)
@click.option(
    "--max-running-per-client", type=click.IntRange(1), help="Jobs of one client running at once.  [default: no bound]"
)
@click.option("--max-iterations", default=Limits.max_iterations, show_default=True, type=click.IntRange(1))
@click.option(
    "--max-streams", default=Limits.max_streams, show_default=True, type=click.IntRange(1), help="Open at once."
)
@click.option(
    "--max-connections", default=Limits.max_connections, show_default=True, type=click.IntRange(1), help="At once."
)
@click.option(
    "--idle-timeout",
    default=Limits.idle_timeout,
    show_default=True,
    type=Number(1),
    help="Seconds after which a connection without calls is closed.",
)
@click.option(
    "--max-reports",
    default=Limits.max_reports,
    show_default=True,
    type=Number(0, min_open=True),
    help="A second, over all streams. Where more are due, all watchers see fewer, always the latest.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the jobs, in which they survive the server.  [default: gramophone/jobs in your data folder, "
    "or with --until-stdin-closes a temporary one]",
)
@click.option("--database", metavar="URL", help="Such as postgresql+psycopg://…  [default: SQLite in --data]")
@click.option("--take-database", is_flag=True, help="Take a database that belongs to another --data, for good.")
@click.option("--keep-days", default=30.0, show_default=True, type=Number(0), help="Ended jobs are kept.")
@click.option("--keep", metavar="SIZE", default="20GiB", show_default=True, callback=size, help="Of files in all.")
@click.option(
    "--keep-per-client",
    metavar="SIZE",
    callback=size,
    help="Of files of one client.  [default: half of --keep, or all without --tokens or --client-ca]",
)
@click.option(
    "--max-uploads-per-client",
    default=Retention.uploads_per_client,
    show_default=True,
    type=click.IntRange(1),
    help="Uploaded pictures of one client that are kept.",
)
@click.option(
    "--checkpoint-every",
    default=_DEFAULT.checkpoint_every,
    show_default=True,
    type=Number(0),
    help="Least seconds between checkpoints of a job.",
)
@click.option(
    "--hang-timeout",
    default=_DEFAULT.hang_timeout,
    show_default=True,
    type=Number(3),
    help="Seconds of a worker's silence after which it is replaced.",
)
@click.option(
    "--attempts", default=_DEFAULT.attempts, show_default=True, type=click.IntRange(1), help="Workers a job may lose."
)
@click.option("--tokens", type=_FILE, help="Clients with bearer tokens; see `gramophone tokens`.")
@click.option("--tls-certificate", type=_FILE, help="The server's certificate and its chain, PEM.")
@click.option("--tls-key", type=_FILE, help="Its private key, PEM.")
@click.option("--client-ca", type=_FILE, help="Ask clients for certificates of these authorities, PEM.")
@click.option("--admin", "admins", multiple=True, metavar="NAME", help="A client that sees everybody's jobs.")
@click.option("--insecure", is_flag=True, help="Let others in without TLS or without asking who they are.")
@click.option(
    "--grace",
    default=10.0,
    show_default=True,
    type=Number(0, 86400),
    help="Seconds that running jobs get when the server stops.",
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics here.  [default: none]")
@click.option("--metrics-host", default=Sight.metrics_host, show_default=True)
@click.option("--tensorboard", type=click.Path(file_okay=False, path_type=Path), help="Folder for event files of jobs.")
@click.option("--log-format", default="text", type=click.Choice(["text", "json"]), show_default=True)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--leave-after", type=Number(1), metavar="SECONDS", help="Stop when there was no work for so long.")
@click.option("--kept-for", default="", hidden=True, help="The environment of the commands that it is kept for.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input closes: for a parent's child.")
def serve(
    host: str,
    port: int,
    devices: tuple[str, ...],
    threads: int,
    memory: int | None,
    models: Path | None,
    default_model: str,
    max_pixels: int,
    decode_memory: int,
    max_queued: int,
    max_queued_per_client: int | None,
    max_running_per_client: int | None,
    max_iterations: int,
    max_streams: int,
    max_connections: int,
    idle_timeout: float,
    max_reports: float,
    data: Path | None,
    database: str | None,
    take_database: bool,
    keep_days: float,
    keep: int,
    keep_per_client: int | None,
    max_uploads_per_client: int,
    checkpoint_every: float,
    hang_timeout: float,
    attempts: int,
    tokens: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    admins: tuple[str, ...],
    insecure: bool,
    grace: float,
    metrics_port: int | None,
    metrics_host: str,
    tensorboard: Path | None,
    log_format: Format,
    log_level: str,
    leave_after: float | None,
    kept_for: str,
    until_stdin_closes: bool,
) -> None:
    """Serve Gramophone over gRPC."""
    configure(log_format, log_level)
    raise_descriptor_limit()
    set_up_allocator()
    limits = Limits(
        max_pixels=max_pixels, decode_memory=decode_memory, max_queued=max_queued,
        max_queued_per_client=max_queued_per_client, max_running_per_client=max_running_per_client,
        max_iterations=max_iterations, max_streams=max_streams, max_connections=max_connections,
        idle_timeout=idle_timeout, max_reports=max_reports,
    )  # fmt: skip
    security = Security(tokens, tls_certificate, tls_key, client_ca, admins, insecure)
    # A parent that starts a child for itself comes back to none of its jobs.
    folder = data if data or until_stdin_closes else default_data_folder()
    retention = Retention(keep_days * 24 * 3600, keep, keep_per_client, max_uploads_per_client)
    config = ServerConfig(
        host=host, port=port, devices=devices or _DEFAULT.devices, threads=threads, models=models,
        default_model=default_model, limits=limits, memory=memory, data=folder, database=database,
        retention=retention, take_database=take_database, attempts=attempts, checkpoint_every=checkpoint_every,
        hang_timeout=hang_timeout, security=security,
        sight=Sight(metrics_host, metrics_port, log_format, log_level, tensorboard),
    )  # fmt: skip
    if until_stdin_closes and config.data is None:
        grace = 0.0  # Nobody is left to wait for what runs, and nobody will come back for it.
    # Commands of this user find it unless it is a parent's, has other models, or asks who calls.
    commands = not until_stdin_closes and models is None and config.security == Security() and _is_found(host)
    stopping = Stopping(grace, stdin=until_stdin_closes)
    stopping.watch()
    try:
        failure = asyncio.run(run(config, grace, stopping, Stay(leave_after, commands, kept_for)))
    except DataFolderError as error:
        raise click.ClickException(str(error)) from error
    except (RuntimeError, UnknownModelError, SecurityError, TokenFileError) as error:
        raise click.ClickException(f"cannot serve on {host}:{port}: {error}") from error
    if failure is not None:
        raise click.ClickException(f"the server has stopped: {failure}")


def _is_found(host: str) -> bool:
    return os.environ.get("GRAMOPHONE_KEEP") != "0" and (is_loopback(host) or is_unix(host))
