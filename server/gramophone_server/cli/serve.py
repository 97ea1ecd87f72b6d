"""`gramophone serve`."""

import asyncio
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from gramophone.credentials import is_loopback
from gramophone.grouped_help import GroupedCommand

from ..api.connections import raise_descriptor_limit
from ..api.memory import set_up_allocator
from ..logs import configure
from ..models.store import UnknownModelError
from ..security.tls import SecurityError, is_unix
from ..security.tokens import TokenFileError
from ..serving import run
from ..settings import SecuritySettings, Settings, build, entries
from ..stopping import Stopping
from ..storage.folder import DataFolderError, default_data_folder
from .options import SettingOption
from .settings_file import SettingsFileError, read_settings_file

S = TypeVar("S", bound=Settings)

_EPILOG = """
Each option but those of a parent is also a variable ($GRAMOPHONE_MAX_QUEUED for --max-queued) and a key of the file of
--config (max_queued). Options beat variables, which beat the file. docs/reference/settings.md lists them all.
"""


def serve_command(kind: type[S]) -> click.Command:
    """The command that starts a server with settings of a class, all of which are its options."""

    def serve(config: Path | None, **values: Any) -> None:
        """Serve Gramophone over gRPC."""
        _forget_secrets(kind)
        _serve(build(kind, values))

    options = [SettingOption(entry) for entry in entries(kind)]
    return GroupedCommand("serve", callback=serve, params=[_config(kind), *options], help=serve.__doc__, epilog=_EPILOG)


def _config(kind: type[Settings]) -> click.Option:
    """The option of the file, which is read before the others get their values."""

    def read(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and not context.resilient_parsing:
            try:
                context.default_map = read_settings_file(path.expanduser(), entries(kind))
            except (SettingsFileError, RuntimeError) as error:
                raise click.UsageError(str(error), context) from error
        return path

    return click.Option(
        ["config", "--config"], type=click.Path(path_type=Path), metavar="FILE", is_eager=True, callback=read,
        envvar="GRAMOPHONE_CONFIG", help="Settings in TOML, such as max_queued = 100.",
    )  # fmt: skip


def _forget_secrets(kind: type[Settings]) -> None:
    """Keeps passwords from the environment of child processes, one kind of which reads pictures of strangers."""
    for entry in entries(kind):
        if entry.about.secret and entry.variable is not None:
            os.environ.pop(entry.variable, None)


def _serve(settings: Settings) -> None:
    seen = settings.observability
    configure(seen.log_format, seen.log_level)
    raise_descriptor_limit()
    set_up_allocator()
    is_found = _is_found(settings)
    settings = _for_its_parent(settings)
    connection, lifetime = settings.connection, settings.lifetime
    stopping = Stopping(lifetime.grace, stdin=lifetime.until_stdin_closes)
    stopping.watch()
    try:
        failure = asyncio.run(run(settings, stopping, is_found=is_found))
    except DataFolderError as error:
        raise _failure(str(error)) from error
    except (RuntimeError, UnknownModelError, SecurityError, TokenFileError) as error:
        raise _failure(f"cannot serve on {connection.host}:{connection.port}: {error}") from error
    if failure is not None:
        raise _failure(f"the server has stopped: {failure}")


def _failure(message: str) -> click.ClickException:
    """The error of the command; of flags that it speaks of, it says which a variable or the file has given."""
    context = click.get_current_context()
    options = [param for param in context.command.params if isinstance(param, SettingOption)]
    said = set(re.findall(r"--[\w-]+", message))
    origins = {option.entry.flag: option.origin(context) for option in options if option.entry.flag in said}
    notes = [f"{flag} is {origin}" for flag, origin in origins.items() if origin]
    return click.ClickException(f"{message} ({', '.join(notes)})" if notes else message)


def _for_its_parent(settings: Settings) -> Settings:
    """The settings with the folder of the jobs, which a parent's child has only if it is told one."""
    if settings.storage.data is not None:
        return settings
    if settings.lifetime.until_stdin_closes:
        # Nobody waits for the jobs that run, and nobody comes back for them.
        return replace(settings, lifetime=replace(settings.lifetime, grace=0.0))
    return replace(settings, storage=replace(settings.storage, data=default_data_folder()))


def _is_found(settings: Settings) -> bool:
    """Whether commands of this user find the server: not if it is a parent's, has other models, or asks who calls."""
    host, models = settings.connection.host, settings.models.models
    has_models_of_commands = models is None or str(models) == os.environ.get("GRAMOPHONE_MODELS")
    return (
        not settings.lifetime.until_stdin_closes
        and has_models_of_commands
        and settings.security == SecuritySettings()
        and os.environ.get("GRAMOPHONE_KEEP") != "0"
        and (is_loopback(host) or is_unix(host))
    )


serve = serve_command(Settings)
