"""Stops the server process on a signal or at the end of standard input, by a deadline even if something hangs."""

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

# Seconds for a graceful shutdown, in addition to the grace period of running jobs.
_SPARE = 4.0
# Seconds until the process exits after a second signal, and after a graceful shutdown with threads still running.
_AFTER_SECOND_SIGNAL, _AFTER_SHUTDOWN = 1.0, 2.0
# Two signals within so many seconds count as one: a terminal signals the process group, and a parent signals as well.
_SAME_SIGNAL = 0.5


class Stopping:
    """Handles the signals of this process in its own thread, so that a blocked main thread does not delay them.

    SIGTERM, SIGINT and (if `stdin`) the end of standard input stop the process. The process exits at the latest
    `grace` + 4 seconds later, or one second after a second signal. SIGHUP reloads certificates, tokens and models.

    Args:
        grace: seconds that running jobs get in a graceful shutdown.
        stdin: whether the end of standard input stops the process.
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
        """Whether the process has been told to stop."""
        return self._began is not None

    def watch(self) -> None:
        """Starts to handle signals. Must be called on the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # The C-level handler writes the signal numbers to the pipe, even while Python code is blocked.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, *_hangup_signals()):
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._receive, args=(reading,), name="signals", daemon=True).start()

    def listen(self, on_stop: Callable[[], None], on_reload: Callable[[], None]) -> None:
        """Sets the callbacks, which run on other threads; calls `on_stop` at once if the process already stops."""
        with self._changed:
            self._on_stop, self._on_reload = on_stop, on_reload
            if self._began is not None:
                on_stop()

    def begin(self) -> None:
        """Starts the shutdown; a second call brings the deadline forward."""
        with self._changed:
            now = time.monotonic()
            if self._began is None:
                self._began, self._deadline = now, now + self._grace + _SPARE
                threading.Thread(target=self._exit_at_deadline, name="stopping", daemon=True).start()
                self._on_stop()
            elif now > self._began + _SAME_SIGNAL:
                self._bring_forward(_AFTER_SECOND_SIGNAL)

    def finish(self, status: int = 0) -> None:
        """Reports the end of a graceful shutdown: threads that still run now delay the exit by 2 seconds at most."""
        with self._changed:
            self._status = status
            if self._began is not None:
                self._bring_forward(_AFTER_SHUTDOWN)

    def _bring_forward(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)
        self._changed.notify_all()

    def _receive(self, reading: int) -> None:
        watched = [reading, *([0] if self._stdin else [])]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if reading in ready:
                for number in os.read(reading, 64):
                    self._handle(number)
            if 0 in ready and not _drain(0):
                watched.remove(0)
                self.begin()

    def _handle(self, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGTERM) or _terminal_is_closed():
            self.begin()
        else:
            self._on_reload()

    def _exit_at_deadline(self) -> None:
        with self._changed:
            while (left := self._deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        # Log in a thread: writing blocks if the reader of the log has stopped reading.
        logging_thread = threading.Thread(target=_log_threads, name="log threads", daemon=True)
        logging_thread.start()
        logging_thread.join(0.5)
        kill_children()
        os._exit(self._status)


def kill_children() -> None:
    """Kills all child processes, even suspended ones. Linux only: elsewhere they end when their pipes close."""
    own_id = str(os.getpid())
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The second field, the program name in parentheses, may contain spaces and parentheses.
            parent = status.read_text().rpartition(")")[2].split()[1]
            if parent == own_id:
                os.kill(int(status.parent.name), signal.SIGKILL)


def _log_threads() -> None:
    """Logs the threads that keep the process from ending, and their stacks at level debug."""
    known = {thread.ident: thread.name for thread in threading.enumerate() if not thread.daemon}
    log.warning("the process exits while threads are still running: %s", ", ".join(known.values()))
    for ident, frame in sys._current_frames().items():
        if ident in known:
            log.debug("thread %s:\n%s", known[ident], "".join(traceback.format_stack(frame)))


def _hangup_signals() -> tuple[signal.Signals, ...]:
    return (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


def _drain(descriptor: int) -> bool:
    """Discards available input; returns whether more may come."""
    try:
        return bool(os.read(descriptor, 4096))
    except OSError:
        return False


def _terminal_is_closed() -> bool:
    """Returns whether the process was started from a terminal that has been closed."""
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
