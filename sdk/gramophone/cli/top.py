"""The command `gramophone jobs top`: a live table of a server's jobs in the terminal."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import FrameType

import click

from .. import Client, GramophoneError, JobInfo
from .connect import Server, resolve, running_server_option
from .console import say
from .sentences import errors_as_sentences

# Maximum numbers of live and of ended jobs, timeout of a call in seconds, width of a progress bar in characters.
_MAX_LIVE, _MAX_ENDED, _TIMEOUT, _BAR = 200, 8, 5.0, 16
# Minimum number of characters of a shortened id; an id begins with the microsecond of its submission.
_MIN_ID = 14
_HEADINGS = ("ID", "KIND", "STATE", "PROGRESS", "IT/S", "LOSS", "TIME", "LEFT", "OWNER", "TRY", "")
_RIGHT = {"IT/S", "LOSS", "TIME", "LEFT", "TRY"}


@click.command()
@running_server_option
@click.option("--once", is_flag=True, help="Print the table once and exit.")
@click.option("--every", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between updates.")
def top(server: Server, once: bool, every: float) -> None:
    """Show a live table of a server's jobs; q quits."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with errors_as_sentences():
        address = resolve(server)
        # No retries: show at once that the server cannot be reached, instead of a table that does not change.
        with Client(address, **server.credentials, retry_for=0, timeout=_TIMEOUT) as client:
            snapshot = Snapshot.of(client)
            if once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
                say("\n".join(table(snapshot, None)))
                return
            _live(client, snapshot, address, every)


@dataclass(frozen=True)
class Snapshot:
    """A server's jobs at one time.

    Attributes:
        running: the running jobs, the oldest first.
        waiting: the queued jobs, the oldest first.
        ended: the jobs that ended last, the latest first.
        time: when the jobs were listed.
    """

    running: list[JobInfo]
    waiting: list[JobInfo]
    ended: list[JobInfo]
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, client: Client) -> Snapshot:
        """Lists the server's jobs.

        Raises:
            GramophoneError: a call failed.
        """
        # List ended jobs last, so that a job that ends between the calls is listed twice rather than not at all.
        running = list(client.jobs(limit=_MAX_LIVE, states=["running"], order="oldest_first"))
        waiting = list(client.jobs(limit=_MAX_LIVE, states=["queued"], order="oldest_first"))
        ended = list(client.jobs(limit=_MAX_ENDED, states=["succeeded", "failed", "cancelled"]))
        over = {job.id for job in ended}
        return cls(
            [job for job in running if job.id not in over],
            [job for job in waiting if job.id not in over],
            sorted(ended, key=lambda job: job.ended or job.created, reverse=True),
        )

    def counts(self) -> str:
        """Returns the numbers of running and waiting jobs as text."""
        more = "+" if len(self.waiting) == _MAX_LIVE else ""
        return f"{len(self.running)} running, {len(self.waiting)}{more} waiting"


def table(snapshot: Snapshot, width: int | None) -> list[str]:
    """Returns the lines of a table of the jobs, truncated to `width` columns; None for no limit."""
    jobs = [*snapshot.running, *snapshot.waiting, *snapshot.ended]
    rows = [_HEADINGS, *(_cells(job, snapshot.time) for job in jobs)]
    if width is not None and width < 132:
        # Shorten the ids to a length at which they are unique: in this table, and, with _MIN_ID, on the server.
        length = max(_MIN_ID, _unique_length([job.id for job in jobs]))
        rows = [_HEADINGS, *((job_id[:length], *rest) for job_id, *rest in rows[1:])]
    # Leave out columns that are empty for all jobs; do not pad the last column.
    kept = [i for i in range(len(_HEADINGS)) if i < 4 or any(cells[i] for cells in rows[1:])]
    widths = {i: max(len(cells[i]) for cells in rows) for i in kept}
    lines = []
    for cells in rows:
        parts = [
            cells[i].rjust(widths[i]) if _HEADINGS[i] in _RIGHT else cells[i].ljust(widths[i] if _HEADINGS[i] else 0)
            for i in kept
        ]
        line = "  ".join(parts).rstrip()
        lines.append(line if width is None or len(line) <= width else line[: max(width - 1, 0)] + "…")
    return lines


def _unique_length(ids: list[str]) -> int:
    """Returns the number of characters after which all ids differ."""
    pairs = itertools.pairwise(sorted(set(ids)))
    return 1 + max((len(os.path.commonprefix(pair)) for pair in pairs), default=0)


def _cells(job: JobInfo, now: datetime) -> tuple[str, ...]:
    frame, running = job.frame, job.state == "running"
    start = job.created if job.state == "queued" else job.started or job.created
    elapsed = (job.ended or now) - start
    return (
        job.id,
        job.kind,
        job.state,
        _bar(frame.iteration, frame.iterations) if frame else "",
        f"{frame.iterations_per_second:.3g}" if frame and running else "",
        f"{frame.loss:.4g}" if frame else "",
        _duration(elapsed.total_seconds()),
        _duration(frame.remaining) if frame and running else "",
        _printable(job.owner),
        str(job.attempts) if job.attempts > 1 else "",
        _printable(job.error or ""),
    )


def _bar(done: int, of: int) -> str:
    filled = min(_BAR, _BAR * done // max(of, 1))
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {done}/{of}"


def _duration(seconds: float) -> str:
    """Such as 8s, 3m20s or 2h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def _printable(text: str) -> str:
    # Names and messages from the server must not contain control sequences for this terminal.
    return "".join(c if c.isprintable() else "?" for c in text)


def _live(client: Client, snapshot: Snapshot, address: str, every: float) -> None:
    trouble = ""
    with contextlib.suppress(KeyboardInterrupt), _screen(), _interrupts() as interrupted, _keys() as pressed:
        while not interrupted():
            _draw(snapshot, address, trouble)
            if pressed(every) in ("q", "Q", "\x03", "\x04"):
                return
            try:
                snapshot, trouble = Snapshot.of(client), ""
            except GramophoneError as error:
                trouble = _printable(str(error))


def _draw(snapshot: Snapshot, address: str, trouble: str) -> None:
    width, height = shutil.get_terminal_size()
    heading = f"gramophone {address}  {snapshot.counts()}  {snapshot.time.astimezone():%H:%M:%S}  (q quits)"
    lines = table(snapshot, width)
    styled = [f"\x1b[1m{heading[:width]}\x1b[0m", (trouble or "")[:width], f"\x1b[7m{lines[0].ljust(width)}\x1b[0m"]
    ended = len(lines) - len(snapshot.ended)
    styled += [line if i < ended else f"\x1b[2m{line}\x1b[0m" for i, line in enumerate(lines[1:], start=1)]
    if len(lines) == 1:
        styled.append("no jobs yet")
    if len(styled) > height:
        styled = [*styled[: height - 1], f"… {len(styled) - height + 1} more"]
    # Overwrite from the top and clear only the rest of each line, which does not flicker.
    sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in styled) + "\x1b[J")
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Switches to the terminal's alternate screen without a cursor during the block, and restores it afterward."""
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C was pressed.

    Ctrl-C still raises KeyboardInterrupt, but C code that calls Python may swallow that exception.
    """
    seen = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen = True
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Yields a function that waits up to a number of seconds and returns the pressed key, or an empty string."""
    try:
        import select
        import termios
        import tty
    except ImportError:  # Windows: only Ctrl-C quits.
        yield _sleep
        return
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        # If input is ready but empty, the terminal is closed.
        return (os.read(descriptor, 1).decode(errors="replace") or "\x04") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> str:
    time.sleep(seconds)
    return ""
