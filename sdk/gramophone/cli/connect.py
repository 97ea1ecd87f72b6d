"""What commands share: a client, errors as sentences, a progress bar."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import click

from .. import Client, EmbeddedServer, GramophoneError, InvalidRequestError, Job, JobCancelledError
from ..values import Frame, Result

_CREDENTIALS = [
    click.option(
        "--token",
        metavar="TOKEN",
        envvar="GRAMOPHONE_TOKEN",
        help="For a server that asks who calls; others can see it here, but not in $GRAMOPHONE_TOKEN.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt the connection."),
    click.option("--ca", metavar="FILE", help="Authorities of the server's certificate, PEM.  [default: public ones]"),
    click.option("--cert", metavar="FILE", help="This client's certificate, PEM."),
    click.option("--key", metavar="FILE", help="Its private key, PEM."),
]


@dataclass(frozen=True)
class Server:
    """A running server, None for none, and the Client's arguments that say who calls it."""

    address: str | None
    credentials: dict[str, Any]


def server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which server is meant, and who calls it: the argument `server`, a Server."""
    return _server(command, "A running server, such as localhost:50051.", None)


def running_server_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for commands that make no sense without a running server."""
    return _server(command, "The running server.", "localhost:50051")


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
        credentials = {"token": token, "tls": tls, "root_certificates": ca, "certificate": cert, "private_key": key}
        return command(*args, server=Server(server, credentials), **others)

    address = click.option(
        "--server", metavar="ADDRESS", envvar="GRAMOPHONE_SERVER", default=default, show_default=True, help=help
    )
    for option in (*reversed(_CREDENTIALS), address):
        gathered = option(gathered)
    return gathered


# Seconds after which a server is taken for one that is not there, when there is no reason to hope for it.
_IMPATIENT = 3.0
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")


@contextlib.contextmanager
def connect(server: Server) -> Iterator[Client]:
    """A client of that server, or else of one that is started for the length of the block; errors become sentences."""
    with errors_as_sentences(), contextlib.ExitStack() as stack:
        if server.address is None:
            address = stack.enter_context(EmbeddedServer("--log-level", "warning")).address
            # Nobody would start it again.
            yield stack.enter_context(Client(address, retry_for=_IMPATIENT))
            return
        # Who mistypes an address should not have to wait for as long as a restart is waited for.
        with Client(server.address, **server.credentials, retry_for=_IMPATIENT) as first:
            first.models()
        yield stack.enter_context(Client(server.address, **server.credentials))


@contextlib.contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Ends the command with a sentence instead of a traceback: status 2 for bad requests, else 1."""
    try:
        yield
    except InvalidRequestError as error:
        lines = [f"{violation.field} {violation.description}" for violation in error.violations]
        _fail("\n".join(lines) or str(error), 2)
    except FileNotFoundError as error:
        _fail(f"there is no file {error.filename}", 2)
    except (ValueError, TypeError) as error:
        _fail(str(error), 2)
    except JobCancelledError as error:
        _fail(str(error), 130)
    except (GramophoneError, OSError) as error:
        _fail(str(error), 1)


def watch(job: Job, *, quiet: bool, description: str = "") -> Iterator[Frame]:
    """The frames of a job, drawn as a progress bar while they pass. Ctrl-C cancels the job."""
    from tqdm import tqdm

    with (
        _cancel_on_interrupt(job),
        tqdm(desc=description or None, unit="it", disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True) as bar,
    ):
        for frame in job:
            bar.total = frame.iterations
            bar.set_postfix(loss=f"{frame.loss:.4g}", refresh=False)
            bar.update(frame.iteration - bar.n)
            yield frame


def summary(result: Result, path: str) -> str:
    """One line on what a job made."""
    image = result.image
    return (
        f"{path}: {image.width}x{image.height}, loss {result.loss:.4g} after {result.iterations} iterations, "
        f"{result.timings.optimize:.1f} s, model {result.model}"
    )


@contextlib.contextmanager
def _cancel_on_interrupt(job: Job) -> Iterator[None]:
    def cancel(number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C ends the command at once.
        signal.signal(signal.SIGINT, before)
        click.echo("\ncancelling …", err=True)
        job.cancel()

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(status)
