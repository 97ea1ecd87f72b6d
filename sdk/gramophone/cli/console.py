"""The process around a command: its standard streams, and the status with which it ends."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import click

# What a shell reports for a command that a signal has ended.
_BY_SIGNAL = 128


class StandardOutputError(Exception):
    """Standard output takes no more; the cause is the OSError."""


def say(text: str) -> None:
    """Prints a line to standard output.

    Raises:
        StandardOutputError: it cannot be written, as when its reader has left.
    """
    try:
        click.echo(text)
    except OSError as error:
        raise StandardOutputError from error


def deliver(data: bytes) -> None:
    """Writes bytes to standard output; raises StandardOutputError as `say` does."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise StandardOutputError from error


def note(text: str) -> None:
    """Prints a line to standard error, if anybody still reads it."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def fail(message: str, status: int) -> NoReturn:
    """Ends the command with a sentence."""
    note(f"Error: {message}")
    raise SystemExit(status)


def status_of(number: int) -> int:
    """The exit status of a command that a signal has ended."""
    return _BY_SIGNAL + number


def run(command: Callable[[], object]) -> NoReturn:
    """Runs a command that raises what click's commands raise, and ends the process with its status."""
    _open_standard_streams()
    try:
        result = command()
        sys.stdout.flush()
        status = result if isinstance(result, int) else 0
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        if isinstance(error, click.NoSuchOption):
            _explain_dashes()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        # The terminal shows ^C; the next prompt begins a line of its own.
        note("")
        status = status_of(signal.SIGINT)
    except SystemExit as error:
        # By this class click marks a command of another package whose reader has left; importing it warns.
        if not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise
        raise SystemExit(_output_failed(BrokenPipeError())) from error
    except StandardOutputError as error:
        status = _output_failed(error.__cause__)
    except OSError as error:
        # Commands of other packages print by click.echo.
        status = _output_failed(error)
    raise SystemExit(status)


def _output_failed(error: BaseException | None) -> int:
    # Python writes what is left at its end: there must be somewhere to write it to.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return status_of(getattr(signal, "SIGPIPE", signal.SIGTERM))
    if isinstance(error, OSError):
        what = "standard output cannot be written" if error.filename is None else str(error.filename)
        note(f"Error: {what}: {error.strerror or error}")
    return 1


def _explain_dashes() -> None:
    for argument in sys.argv[1:]:
        if argument.startswith("-") and os.path.exists(argument):
            note(f"To name the file {argument!r}, write ./{argument}")


def _open_standard_streams() -> None:
    """Gives the process streams that can be used whatever it was started with."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError as error:
            # A file or a socket would get its number, and be written to. Opened the wrong way round, its use fails.
            if error.errno == errno.EBADF:
                os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Names of files may have bytes that are no text, and a terminal may lack a character.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
