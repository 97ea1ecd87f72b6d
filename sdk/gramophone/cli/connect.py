"""What commands share: a client, errors as sentences, a progress bar."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import click

from .. import Client, EmbeddedServer, GramophoneError, InvalidRequestError, Job, JobCancelledError
from ..values import Frame, Result

server_option = click.option(
    "--server", metavar="ADDRESS", envvar="GRAMOPHONE_SERVER", help="A running server, such as localhost:50051."
)
# Seconds after which a server is taken for one that is not there, when there is no reason to hope for it.
_IMPATIENT = 3.0
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")


@contextlib.contextmanager
def connect(server: str | None) -> Iterator[Client]:
    """A client of that server, or else of one that is started for the length of the block; errors become sentences."""
    with errors_as_sentences(), contextlib.ExitStack() as stack:
        if server is None:
            address = stack.enter_context(EmbeddedServer("--log-level", "warning")).address
            # Nobody would start it again.
            yield stack.enter_context(Client(address, retry_for=_IMPATIENT))
            return
        # Who mistypes an address should not have to wait for as long as a restart is waited for.
        with Client(server, retry_for=_IMPATIENT) as first:
            first.models()
        yield stack.enter_context(Client(server))


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
