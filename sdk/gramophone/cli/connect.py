"""What commands share: which server is meant, and a client of it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import Client, EmbeddedServer, GramophoneError
from . import kept
from .files import shown
from .sentences import errors_as_sentences

# Addresses of gRPC's other kinds.
_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):(?!\d+$)")
_HOST_AND_PORT = re.compile(r"(\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d+)", re.ASCII)


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
# Seconds for which one that was there is waited for, as while it is restarted.
_PATIENT = 60.0
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar, and no word on how to come back.")


@dataclass(frozen=True)
class Server:
    """A running server, None for one of this user's own, and the Client's arguments that say who calls it.

    Attributes:
        otherwise: the address for a command that starts no server, where this user has none.
    """

    address: str | None
    credentials: dict[str, Any]
    otherwise: str | None = None

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
    return _server(command, "The running server.  [default: one of yours, or localhost:50051]", "localhost:50051")


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is None or _TARGET.match(value):
        return value
    if not value.strip():
        raise click.BadParameter("it is empty; write the server's address, such as localhost:50051")
    if (match := _HOST_AND_PORT.fullmatch(value)) and 0 < int(match["port"]) < 65536:
        return value
    scheme, separator, rest = value.rpartition("://")
    if rest.count(":") > 1 and "[" not in rest:
        # An IPv6 address, which needs brackets to have a port.
        rest = f"[{rest}]"
    host = re.sub(r"/.*$|:[^:\]]*$", "", rest) or "localhost"
    given = re.search(r":(\d{1,5})(/|$)", rest)
    port = given[1] if given and 0 < int(given[1]) < 65536 else "50051"
    tls = " with --tls" if scheme == "https" else ""
    what = "is a URL" if separator else "is not a host and a port"
    raise click.BadParameter(f"{value!r} {what}; write {host}:{port}{tls}")


def _server(command: Callable[..., Any], help: str, otherwise: str | None) -> Callable[..., Any]:
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
        return command(*args, server=Server(server, credentials, otherwise), **others)

    address = click.option(
        "--server", metavar="ADDRESS", envvar="GRAMOPHONE_SERVER", help=help,
        callback=_address,
    )  # fmt: skip
    for option in (*reversed(_CREDENTIALS), address):
        gathered = option(gathered)
    return gathered


@contextlib.contextmanager
def connect(server: Server) -> Iterator[Client]:
    """A client of that server, or of one of this user's own; errors become sentences."""
    with reach(server) as (client, _):
        yield client


@contextlib.contextmanager
def reach(server: Server, *, quiet: bool = True) -> Iterator[tuple[Client, Server | None]]:
    """The same, and how other commands reach that server: None for one that ends with this command."""
    # What goes wrong with a connection is told in a sentence, not in gRPC's own log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with errors_as_sentences(), contextlib.ExitStack() as stack:
        address = server.address
        if address is None and (address := _own(server, quiet=quiet)) is None:
            address = stack.enter_context(EmbeddedServer("--log-level", "warning")).address
            # Nobody would start it again.
            yield stack.enter_context(Client(address, retry_for=_IMPATIENT)), None
            return
        credentials = server.credentials if server.address or address == server.otherwise else {}
        if server.address is not None or address == server.otherwise:
            # Who mistypes an address should not have to wait for as long as a restart is waited for.
            with Client(address, **credentials, retry_for=_IMPATIENT) as first:
                first.models()
        # A server that is kept for commands does not come back to its address.
        comes_back = server.address is not None or not address.startswith("unix:")
        client = Client(address, **credentials, retry_for=_PATIENT if comes_back else _IMPATIENT)
        yield stack.enter_context(client), server


def resolve(server: Server) -> str:
    """The address of the server that a command means which needs one that runs."""
    address = server.address or _own(server, quiet=True) or server.otherwise
    assert address is not None
    return address


def _own(server: Server, *, quiet: bool) -> str | None:
    """The address of a server that answers, when none was given; None for none."""
    if server.otherwise is None:
        return _answering(quiet=quiet)
    if any(server.credentials.values()):
        return server.otherwise
    if (found := kept.find()) is not None and _answers(found):
        return found
    # What was left to a server that has left is had by the next.
    if kept.has_jobs() and not _listens(server.otherwise):
        return _answering(quiet=quiet) or server.otherwise
    return server.otherwise


def _answering(*, quiet: bool) -> str | None:
    # A server that is about to leave may have been found.
    for _ in range(3):
        address = kept.find_or_start(quiet=quiet)
        if address is None or _answers(address):
            return address
    return None


def _answers(address: str) -> bool:
    try:
        with Client(address, retry_for=_IMPATIENT) as client:
            client.models()
    except GramophoneError:
        return False
    return True


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False
