"""Options that choose a server, and connections to it, for all commands."""

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
from . import background_server
from .files import shown
from .sentences import errors_as_sentences

# Other kinds of gRPC addresses, passed on unchanged.
_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):(?!\d+$)")
_HOST_AND_PORT = re.compile(r"(\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d+)", re.ASCII)


class _PemType(click.Path):
    """A PEM file of keys or certificates."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the path of a PEM file. Checked here, because gRPC does not say which file it cannot use."""
        path = str(super().convert(value, param, ctx))
        try:
            if b"-----BEGIN " not in Path(path).read_bytes():
                self.fail(f"{shown(path)} is not a PEM file: it has no line that begins with -----BEGIN", param, ctx)
        except OSError as error:
            self.fail(f"{shown(path)} cannot be read: {error.strerror}", param, ctx)
        return path


_FILE = _PemType(exists=True, dir_okay=False)
_CREDENTIALS = [
    click.option(
        "--token",
        metavar="TOKEN",
        envvar="GRAMOPHONE_TOKEN",
        show_envvar=True,
        help="Token for a server that requires authentication. Other users can see it in the list of processes; "
        "$GRAMOPHONE_TOKEN is safer.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt the connection."),
    click.option(
        "--ca", metavar="FILE", type=_FILE, help="Certificate authorities to trust, PEM.  [default: public authorities]"
    ),
    click.option("--cert", metavar="FILE", type=_FILE, help="This client's certificate, PEM."),
    click.option("--key", metavar="FILE", type=_FILE, help="This client's private key, PEM."),
]
# Seconds to retry while a server cannot be reached: a server that has not responded yet, or will not come back.
_SHORT_RETRY = 3.0
# The same for a server that has responded and may be restarting.
_LONG_RETRY = 60.0
quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Print no progress bar, and no command to watch the job again."
)


@dataclass(frozen=True)
class Server:
    """The server that a command uses.

    Attributes:
        address: the address given by --server; None for a server of this user on this machine.
        credentials: the Client's keyword arguments for authentication and TLS.
        fallback: the address to use if none is given and this user has no server here; None to start a server.
    """

    address: str | None
    credentials: dict[str, Any]
    fallback: str | None = None

    def options(self) -> list[str]:
        """Returns the command-line options for this server, without the token, which is a secret."""
        options = [] if self.address is None else ["--server", self.address]
        if self.credentials["tls"]:
            options.append("--tls")
        for name, argument in (("--ca", "root_certificates"), ("--cert", "certificate"), ("--key", "private_key")):
            if self.credentials[argument] is not None:
                options += [name, self.credentials[argument]]
        return options

    def command(self, *words: str) -> str:
        """Returns a shell command that uses this server, for the user to copy."""
        return shlex.join(["gramophone", *words, *self.options()])


def server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options for a server, its credentials and TLS; the command gets them as one argument `server`."""
    return _server(
        command, "Address of a running server, such as localhost:50051.  [default: your own, started if needed]", None
    )


def running_server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the same options to a command that starts no server, because it needs one that is already running."""
    help = "Address of the running server.  [default: your own, else localhost:50051]"
    return _server(command, help, "localhost:50051")


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is None or _TARGET.match(value):
        return value
    if not value.strip():
        raise click.BadParameter("the address is empty; write the server's address, such as localhost:50051")
    if (match := _HOST_AND_PORT.fullmatch(value)) and 0 < int(match["port"]) < 65536:
        return value
    scheme, separator, rest = value.rpartition("://")
    if rest.count(":") > 1 and "[" not in rest:
        # An IPv6 address needs brackets before a port.
        rest = f"[{rest}]"
    host = re.sub(r"/.*$|:[^:\]]*$", "", rest) or "localhost"
    given = re.search(r":(\d{1,5})(/|$)", rest)
    port = given[1] if given and 0 < int(given[1]) < 65536 else "50051"
    tls = " with --tls" if scheme == "https" else ""
    what = "is a URL" if separator else "is not a host and a port"
    raise click.BadParameter(f"{value!r} {what}; write {host}:{port}{tls}")


def _server(command: Callable[..., Any], help: str, fallback: str | None) -> Callable[..., Any]:
    @functools.wraps(command)
    def with_server(
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
        return command(*args, server=Server(server, credentials, fallback), **others)

    address = click.option(
        "--server", metavar="ADDRESS", envvar="GRAMOPHONE_SERVER", show_envvar=True, help=help,
        callback=_address,
    )  # fmt: skip
    for option in (*reversed(_CREDENTIALS), address):
        with_server = option(with_server)
    return with_server


@contextlib.contextmanager
def connect(server: Server) -> Iterator[Client]:
    """Connects to the server, or to one of this user's; in the block, errors end the command with a message."""
    with reach(server) as (client, _):
        yield client


@contextlib.contextmanager
def reach(server: Server, *, quiet: bool = True) -> Iterator[tuple[Client, Server | None]]:
    """Like `connect`; yields also the server for later commands, or None if the server ends with this command.

    Args:
        quiet: print nothing about a server that is started.
    """
    # Errors of connections are printed as messages; gRPC's own log would only repeat them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with errors_as_sentences(), contextlib.ExitStack() as stack:
        address = server.address
        if address is None and (address := _own(server, quiet=quiet)) is None:
            address = stack.enter_context(EmbeddedServer("--log-level", "warning")).address
            # The embedded server is never restarted.
            yield stack.enter_context(Client(address, retry_for=_SHORT_RETRY)), None
            return
        credentials = server.credentials if server.address or address == server.fallback else {}
        if server.address is not None or address == server.fallback:
            # Fail soon for a mistyped address; only a server that has responded is worth the long retry.
            with Client(address, **credentials, retry_for=_SHORT_RETRY) as first:
                first.models()
        # A background server for commands never restarts at the same address.
        may_restart = server.address is not None or not address.startswith("unix:")
        client = Client(address, **credentials, retry_for=_LONG_RETRY if may_restart else _SHORT_RETRY)
        yield stack.enter_context(client), server


def resolve(server: Server) -> str:
    """Returns the address of the running server that a command with `running_server_option` uses."""
    address = server.address or _own(server, quiet=True) or server.fallback
    assert address is not None
    return address


def _own(server: Server, *, quiet: bool) -> str | None:
    """Returns the address of a responding server when none was given; None if there is none."""
    if server.fallback is None:
        return _found_or_started(quiet=quiet)
    if any(server.credentials.values()):
        return server.fallback
    if (found := background_server.find()) is not None and _responds(found):
        return found
    # A background server that has stopped has left jobs: start the next one, which has the same jobs.
    if background_server.has_jobs() and not _listens(server.fallback):
        return _found_or_started(quiet=quiet) or server.fallback
    return server.fallback


def _found_or_started(*, quiet: bool) -> str | None:
    # Try again if the server found is just stopping.
    for _ in range(3):
        address = background_server.find_or_start(quiet=quiet)
        if address is None or _responds(address):
            return address
    return None


def _responds(address: str) -> bool:
    try:
        with Client(address, retry_for=_SHORT_RETRY) as client:
            client.models()
    except GramophoneError:
        return False
    return True


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False
