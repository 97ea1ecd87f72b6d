"""What commands share: which server is meant, and a client of it."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import Client, EmbeddedServer
from .files import shown
from .sentences import errors_as_sentences


class _PemType(click.Path):
    """A file of keys or certificates."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Its path. gRPC would not say which file it cannot use."""
        path = str(super().convert(value, param, ctx))
        try:
            if b"-----BEGIN " not in Path(path).read_bytes():
                self.fail(f"{shown(path)} is no PEM file: it has no line that begins with -----BEGIN", param, ctx)
        except OSError as error:
            self.fail(f"{shown(path)} cannot be read: {error.strerror}", param, ctx)
        return path


_FILE = _PemType(exists=True, dir_okay=False)
_CREDENTIALS = [
    click.option(
        "--token",
        metavar="TOKEN",
        envvar="GRAMOPHONE_TOKEN",
        help="For a server that asks who calls; others can see it here, but not in $GRAMOPHONE_TOKEN.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt the connection."),
    click.option(
        "--ca", metavar="FILE", type=_FILE, help="Authorities of the server's certificate, PEM.  [default: public ones]"
    ),
    click.option("--cert", metavar="FILE", type=_FILE, help="This client's certificate, PEM."),
    click.option("--key", metavar="FILE", type=_FILE, help="Its private key, PEM."),
]
# Seconds after which a server is taken for one that is not there, when there is no reason to hope for it.
_IMPATIENT = 3.0
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar, and no word on how to come back.")


@dataclass(frozen=True)
class Server:
    """A running server, None for none, and the Client's arguments that say who calls it."""

    address: str | None
    credentials: dict[str, Any]

    def options(self) -> list[str]:
        """The options that mean this server, without the token, which is a secret."""
        options = [] if self.address is None else ["--server", self.address]
        if self.credentials["tls"]:
            options.append("--tls")
        for name, argument in (("--ca", "root_certificates"), ("--cert", "certificate"), ("--key", "private_key")):
            if self.credentials[argument] is not None:
                options += [name, self.credentials[argument]]
        return options

    def command(self, *words: str) -> str:
        """A command for this server, for a person to copy."""
        return shlex.join(["gramophone", *words, *self.options()])


def server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which server is meant, and who calls it: the argument `server`, a Server."""
    return _server(command, "A running server, such as localhost:50051.", None)


def running_server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for commands that make no sense without a running server."""
    return _server(command, "The running server.", "localhost:50051")


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty; write the server's address, such as localhost:50051")
    return value


def _server(command: Callable[..., Any], help: str, default: str | None) -> Callable[..., Any]:
    @functools.wraps(command)
    def gathered(
        *args: Any,
        server: str | None,
        token: str | None,
        tls: bool,
        ca: str | None,
        cert: str | None,
        key: str | None,
        **others: Any,
    ) -> Any:
        if (cert is None) != (key is None):
            raise click.UsageError("--cert and --key go together: give both or neither")
        credentials = {"token": token, "tls": tls, "root_certificates": ca, "certificate": cert, "private_key": key}
        return command(*args, server=Server(server, credentials), **others)

    address = click.option(
        "--server", metavar="ADDRESS", envvar="GRAMOPHONE_SERVER", default=default, show_default=True, help=help,
        callback=_address,
    )  # fmt: skip
    for option in (*reversed(_CREDENTIALS), address):
        gathered = option(gathered)
    return gathered


@contextlib.contextmanager
def connect(server: Server) -> Iterator[Client]:
    """A client of that server, or else of one that is started for the length of the block; errors become sentences."""
    with reach(server) as (client, _):
        yield client


@contextlib.contextmanager
def reach(server: Server) -> Iterator[tuple[Client, Server | None]]:
    """The same, and how other commands reach that server: None for one that ends with this command."""
    # What goes wrong with a connection is told in a sentence, not in gRPC's own log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with errors_as_sentences(), contextlib.ExitStack() as stack:
        if server.address is None:
            address = stack.enter_context(EmbeddedServer("--log-level", "warning")).address
            # Nobody would start it again.
            yield stack.enter_context(Client(address, retry_for=_IMPATIENT)), None
            return
        # Who mistypes an address should not have to wait for as long as a restart is waited for.
        with Client(server.address, **server.credentials, retry_for=_IMPATIENT) as first:
            first.models()
        yield stack.enter_context(Client(server.address, **server.credentials)), server
