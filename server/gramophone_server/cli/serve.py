"""`gramophone serve`."""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from gramophone.credentials import is_loopback
from gramophone.grouped_help import GroupedCommand
from gramophone.runtime import data_home

from ..api.connections import raise_descriptor_limit
from ..api.memory import set_up_allocator
from ..logs import configure
from ..models.store import UnknownModelError
from ..security.tls import SecurityError, is_unix
from ..security.tokens import TokenFileError
from ..serving import run
from ..settings import SecuritySettings, Settings, build, entries
from ..stopping import Stopping
from ..storage.folder import DataFolderError
from .options import SettingOption
from .settings_file import SettingsFileError, read_settings_file

S = TypeVar("S", bound=Settings)

_EPILOG = """
Each option, except --until-stdin-closes, is also a variable ($GRAMOPHONE_MAX_QUEUED for --max-queued) and a key of the
--config file (max_queued). Options override variables, and variables the file. docs/reference/settings.md lists all.
"""


def serve_command(kind: type[S]) -> click.Command:
    """Returns the command that starts a server; each setting of a class becomes an option."""

    def serve(config: Path | None, **values: Any) -> None:
        """Serve Gramophone over gRPC, and with --http over HTTP."""
        _forget_secrets(kind)
        serve_until_stopped(build(kind, values))

    options = [SettingOption(entry) for entry in entries(kind)]
    return GroupedCommand("serve", callback=serve, params=[_config(kind), *options], help=serve.__doc__, epilog=_EPILOG)


def _config(kind: type[Settings]) -> click.Option:
    """Returns the option --config. Its file is read first, because it gives defaults for all other options."""

    def read(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and not context.resilient_parsing:
            try:
                context.default_map = read_settings_file(path.expanduser(), entries(kind))
            except (SettingsFileError, RuntimeError) as error:
                raise click.UsageError(str(error), context) from error
        return path

    return click.Option(
        ["config", "--config"], type=click.Path(path_type=Path), metavar="FILE", is_eager=True, callback=read,
        envvar="GRAMOPHONE_CONFIG", help="File of settings in TOML, such as max_queued = 100.",
    )  # fmt: skip


def _forget_secrets(kind: type[Settings]) -> None:
    """Removes passwords from the environment, so that child processes, such as decoders, do not get them."""
    for entry in entries(kind):
        if entry.properties.secret and entry.variable is not None:
            os.environ.pop(entry.variable, None)


def serve_until_stopped(settings: Settings, on_start: Callable[[str], object] = bool) -> None:
    """Serves until the process is told to stop; `on_start` as of `run`.

    Raises:
        click.ClickException: the server cannot start, or has failed.
    """
    seen = settings.observability
    configure(seen.log_format, seen.log_level)
    raise_descriptor_limit()
    set_up_allocator()
    is_discoverable = _is_discoverable(settings)
    settings = _with_data_folder(settings)
    connection, lifetime = settings.connection, settings.lifetime
    stopping = Stopping(lifetime.grace, stdin=lifetime.until_stdin_closes)
    stopping.watch()
    try:
        failure = asyncio.run(run(settings, stopping, is_discoverable=is_discoverable, on_start=on_start))
    except DataFolderError as error:
        raise _failure(str(error)) from error
    except (RuntimeError, UnknownModelError, SecurityError, TokenFileError) as error:
        raise _failure(f"cannot serve on {connection.host}:{connection.port}: {error}") from error
    if failure is not None:
        raise _failure(f"the server has stopped: {failure}")


def _failure(message: str) -> click.ClickException:
    """Returns the command's error. For flags in the message it adds the variable or key that gave the value."""
    context = click.get_current_context()
    options = [param for param in context.command.params if isinstance(param, SettingOption)]
    said = set(re.findall(r"--[\w-]+", message))
    origins = {option.entry.flag: option.origin(context) for option in options if option.entry.flag in said}
    notes = [f"{flag} is {origin}" for flag, origin in origins.items() if origin]
    return click.ClickException(f"{message} ({', '.join(notes)})" if notes else message)


def _with_data_folder(settings: Settings) -> Settings:
    """Returns the settings with the default data folder filled in, except for the server of a parent process.

    Raises:
        click.ClickException: the server is one of a cluster, which need a folder that they share.
    """
    if settings.storage.data is not None:
        return settings
    if settings.storage.cluster and settings.storage.files is None:
        raise _failure("--cluster needs --data, a folder that all servers of the cluster share, or --files")
    if settings.lifetime.until_stdin_closes:
        # Do not wait for running jobs: the parent has ended, and the jobs are not kept.
        return replace(settings, lifetime=replace(settings.lifetime, grace=0.0))
    return replace(settings, storage=replace(settings.storage, data=data_home() / "jobs"))


def _is_discoverable(settings: Settings) -> bool:
    """Returns whether commands of the same user may find and use this server.

    They may not if a parent process started it, if it has other models or security settings, or if other machines can
    reach it.
    """
    host, models = settings.connection.host, settings.models.models
    has_same_models = models is None or str(models) == os.environ.get("GRAMOPHONE_MODELS")
    return (
        not settings.lifetime.until_stdin_closes
        and has_same_models
        and settings.security == SecuritySettings()
        and os.environ.get("GRAMOPHONE_KEEP") != "0"
        and (is_loopback(host) or is_unix(host))
    )


serve = serve_command(Settings)
