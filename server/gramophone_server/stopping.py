"""How a server's process ends: told by a signal or by its standard input, and gone in time whatever hangs."""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

# Seconds beyond the grace of running jobs in which an orderly end has to be done.
_SPARE = 4.0
# Seconds that are left when a second signal comes, and when only threads are left that do not end.
_HURRY, _LEFTOVERS = 1.0, 2.0
# A second signal that comes with the first, from a process group and a parent, is the same wish.
_TOGETHER = 0.5


class Stopping:
    """Takes the signals of this process in a thread of its own, so that they are taken whatever else stands still.

    SIGTERM, SIGINT and, if asked for, the end of standard input mean to stop. The process is gone `grace` seconds and
    four more later; at a second signal, one second later. SIGHUP means to read files again.

    Args:
        grace: seconds that an orderly end may give running jobs.
        stdin: whether the end of standard input means to stop.
    """

    def __init__(self, grace: float, *, stdin: bool) -> None:
        self._grace = grace
        self._stdin = stdin
        self._changed = threading.Condition()
        self._began: float | None = None
        self._deadline = float("inf")
        self._status = 1
        self._on_stop: Callable[[], None] = lambda: None
        self._on_reload: Callable[[], None] = lambda: None

    @property
    def began(self) -> bool:
        """Whether it has been told to stop."""
        return self._began is not None

    def watch(self) -> None:
        """Takes signals from now on. To be called by the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # The system's own handler writes their numbers, whatever Python is doing.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, *_hangup()):
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._listen, args=(reading,), name="signals", daemon=True).start()

    def listen(self, on_stop: Callable[[], None], on_reload: Callable[[], None]) -> None:
        """Has these called, from another thread: `on_stop` once, and at once if it is due already."""
        with self._changed:
            self._on_stop, self._on_reload = on_stop, on_reload
            if self._began is not None:
                on_stop()

    def begin(self) -> None:
        """Has the process end; a second time, sooner."""
        with self._changed:
            now = time.monotonic()
            if self._began is None:
                self._began, self._deadline = now, now + self._grace + _SPARE
                threading.Thread(target=self._watch, name="stopping", daemon=True).start()
                self._on_stop()
            elif now > self._began + _TOGETHER:
                self._bring_forward(_HURRY)

    def finish(self, status: int = 0) -> None:
        """The orderly end is done: threads that are left over do not hold the process up, if it was told to stop."""
        with self._changed:
            self._status = status
            if self._began is not None:
                self._bring_forward(_LEFTOVERS)

    def _bring_forward(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)
        self._changed.notify_all()

    def _listen(self, reading: int) -> None:
        watched = [reading, *([0] if self._stdin else [])]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if reading in ready:
                for number in os.read(reading, 64):
                    self._take(number)
            if 0 in ready and not _read_on(0):
                watched.remove(0)
                self.begin()

    def _take(self, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGTERM) or _terminal_is_gone():
            self.begin()
        else:
            self._on_reload()

    def _watch(self) -> None:
        with self._changed:
            while (left := self._deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        # Whoever reads the log may have stopped reading.
        told = threading.Thread(target=_tell, name="last words", daemon=True)
        told.start()
        told.join(0.5)
        kill_children()
        os._exit(self._status)


def kill_children() -> None:
    """Kills all child processes of this one, those that are stopped included (Linux; elsewhere they leave alone)."""
    us = str(os.getpid())
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The name of a program, in parentheses, may contain anything.
            parent = status.read_text().rpartition(")")[2].split()[1]
            if parent == us:
                os.kill(int(status.parent.name), signal.SIGKILL)


def _tell() -> None:
    known = {thread.ident: thread.name for thread in threading.enumerate() if not thread.daemon}
    log.warning("the process is ended although there is still something running: %s", ", ".join(known.values()))
    for ident, frame in sys._current_frames().items():
        if ident in known:
            log.debug("thread %s:\n%s", known[ident], "".join(traceback.format_stack(frame)))


def _hangup() -> tuple[signal.Signals, ...]:
    return (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


def _read_on(descriptor: int) -> bool:
    """Whether there is more to come, of what nobody wants to know."""
    try:
        return bool(os.read(descriptor, 4096))
    except OSError:
        return False


def _terminal_is_gone() -> bool:
    """Whether the terminal that this was started from, by whoever sits there, has been closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return any(stream is not None and _was_terminal(stream.fileno()) for stream in (sys.__stdin__, sys.__stderr__))
    return False


def _was_terminal(descriptor: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(("/dev/pts/", "/dev/tty"))
    except OSError:
        return False
