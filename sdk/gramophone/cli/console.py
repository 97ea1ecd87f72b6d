"""Standard streams and exit status of commands."""

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

# Exit statuses above this mean, as in a shell, that a signal ended the command.
_BY_SIGNAL = 128


class StandardOutputError(Exception):
    """Standard output cannot be written; the OSError is in `__cause__`."""


def say(text: str) -> None:
    """Prints a line to standard output.

    Raises:
        StandardOutputError: it cannot be written, for example because its reader has closed the pipe.
    """
    try:
        click.echo(text)
    except OSError as error:
        raise StandardOutputError from error


def deliver(data: bytes) -> None:
    """Writes bytes to standard output.

    Raises:
        StandardOutputError: it cannot be written.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise StandardOutputError from error


def note(text: str) -> None:
    """Prints a line to standard error; ignores errors, for example if the terminal is closed."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def fail(message: str, status: int) -> NoReturn:
    """Prints an error message and ends the command with an exit status."""
    note(f"Error: {message}")
    raise SystemExit(status)


def status_of(number: int) -> int:
    """Returns the exit status of a command that a signal has ended."""
    return _BY_SIGNAL + number


def run(command: Callable[[], object]) -> NoReturn:
    """Runs a click command without click's standalone mode, and ends the process with its exit status."""
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
        # The terminal shows ^C; start a new line for the next prompt.
        note("")
        status = status_of(signal.SIGINT)
    except SystemExit as error:
        # click sets a stream of this class after a broken pipe in a command of another package. Compare the class by
        # name, because importing it warns.
        if not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise
        raise SystemExit(_output_failed(BrokenPipeError())) from error
    except StandardOutputError as error:
        status = _output_failed(error.__cause__)
    except OSError as error:
        # Commands of other packages print with click.echo, which raises OSError.
        status = _output_failed(error)
    raise SystemExit(status)


def _output_failed(error: BaseException | None) -> int:
    # Python flushes standard output when it exits: redirect it to /dev/null, so that this does not fail again.
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
    """Makes standard streams usable that are closed, or that cannot encode some characters."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError as error:
            # Without this, the next opened file or socket would get the descriptor of a closed standard stream, and the
            # command would read or write it. The wrong mode makes any use fail.
            if error.errno == errno.EBADF:
                os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # File names may have bytes that are not valid text, and a terminal's encoding may lack a character.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
