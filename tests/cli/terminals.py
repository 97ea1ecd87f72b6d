"""Runs commands in a pseudo-terminal, with key presses, signals and a lost connection."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import time
from types import TracebackType


class Terminal:
    """`gramophone ARGS` in a terminal. Standard output goes to the terminal too, unless `stdout` is given.

    Attributes:
        ours: the file descriptor of our end of the terminal; -1 when it is closed.
        shown: all output of the command so far.
    """

    def __init__(
        self, *args: object, size: tuple[int, int] = (24, 100), stdout: int | None = None, **environment: str
    ) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, size)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_A_TERMINAL, *map(str, args)],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | environment,
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.hang_up()

    def press(self, keys: str) -> None:
        """Types the keys; "\\x03" is Ctrl-C."""
        os.write(self.ours, keys.encode())

    def hang_up(self) -> None:
        """Closes the terminal, as a lost connection does: its processes get SIGHUP and their writes fail."""
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1

    def wait_for(self, words: str, timeout: float = 60) -> None:
        """Reads output until it contains `words`."""
        deadline = time.monotonic() + timeout
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read() or self.process.poll() is None or words in self.shown, self.shown

    def end(self, timeout: float = 60) -> int:
        """Reads all output until the command ends, and returns its exit status."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        while self._read():
            pass
        assert "Traceback" not in self.shown, self.shown
        return self.process.returncode

    def _read(self) -> bool:
        if self.ours < 0 or not select.select([self.ours], [], [], 0.1)[0]:
            return False
        with contextlib.suppress(OSError):  # the other end has closed
            piece = os.read(self.ours, 65536)
            self.shown += piece.decode(errors="replace")
            return bool(piece)
        return False


# Makes the terminal the controlling terminal of the session: Ctrl-C and hanging up then send signals.
_IN_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from gramophone.cli import main
main(prog_name="gramophone")
"""
