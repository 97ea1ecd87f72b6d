"""`gramophone jobs top`: printed once into a pipe, and live in a terminal."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gramophone import Frame, JobInfo
from gramophone.cli.top import Snapshot, _interrupts, table
from gramophone.v1 import job_service_pb2
from tests.cli.test_commands import gramophone
from tests.harness import ServerProcess, endless_request, events, run, style_request

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
FRAME = Frame(30, 120, 1234.5, (), 2.5, 12.0, 36.0, b"")
RUNNING = JobInfo("a" * 30, "style", "running", "m", NOW, NOW, None, FRAME, None, "ann", 0, 2)
RUNNING = replace(RUNNING, created=NOW - timedelta(seconds=80), started=NOW - timedelta(seconds=75))
FAILED = JobInfo("b" * 30, "content", "failed", "m", NOW, NOW, NOW, None, "It broke.\x1b[2J\nBadly.", "", 0, 1)


def test_the_table_of_jobs():
    heading, running, failed = table(Snapshot([RUNNING], [], [FAILED], NOW), None)
    assert heading.split() == ["ID", "KIND", "STATE", "PROGRESS", "IT/S", "LOSS", "TIME", "LEFT", "OWNER", "TRY"]
    assert running.split() == [
        "a" * 30, "style", "running", "[####............]", "30/120", "2.5", "1234", "1m15s", "36s", "ann", "2",
    ]  # fmt: skip
    assert failed.split()[:4] == ["b" * 30, "content", "failed", "0s"]
    # Control characters in a server's error message are replaced.
    assert failed.endswith("It broke.?[2J?Badly.")


def test_the_table_without_jobs():
    assert table(Snapshot([], [], [], NOW), 80) == ["ID  KIND  STATE  PROGRESS"]


@pytest.mark.parametrize("width", [1, 20, 80, 131, 132])
def test_the_table_fits_the_width_of_the_terminal(width):
    for line in table(Snapshot([RUNNING], [], [FAILED], NOW), width):
        assert len(line) <= width
    assert ("a" * 30 in table(Snapshot([RUNNING], [], [], NOW), width)[1]) == (width >= 132)


@pytest.fixture(scope="module")
def busy() -> Iterator[ServerProcess]:
    """A server with one ended, one running and one queued job."""
    with ServerProcess() as server:
        run(server, style_request())
        stream = server.style.ReconstructStyle(endless_request())
        while not next(events(stream)).HasField("progress"):
            pass
        waiting = server.style.ReconstructStyle(style_request())
        next(waiting)
        yield server


def test_the_table_is_printed_once(busy):
    for args in (["--once"], []):
        done = gramophone("jobs", "top", *args, "--server", busy.address)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        _, *lines = done.stdout.splitlines()
        assert [line.split()[2] for line in lines] == ["running", "queued", "succeeded"]
        jobs = busy.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs
        assert {line.split()[0] for line in lines} == {job.id for job in jobs}
        assert re.search(r"\[\.{16}\] \d+/1000000 ", lines[0])


def test_an_unreachable_server_is_reported():
    done = gramophone("jobs", "top", "--server", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr


class Terminal:
    """`gramophone jobs top` in a terminal of 24 lines of 100 columns."""

    def __init__(self, address: str) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 100))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        command = [sys.executable, "-m", "gramophone", "jobs", "top", "--every", "0.2", "--server", address]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        self.shown = ""

    def wait_for(self, words: str, timeout: float = 30) -> None:
        """Reads new output until it contains `words`; earlier output does not count."""
        self.shown, deadline = "", time.monotonic() + timeout
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.ours], [], [], 0.2)[0]:
                self.shown += os.read(self.ours, 65536).decode(errors="replace")

    def check_exit(self) -> None:
        """Checks that the command exits and restores the terminal."""
        self.wait_for("\x1b[?25h\x1b[?1049l")  # shows the cursor and leaves the alternate screen
        assert self.process.wait(10) == 0
        assert "Traceback" not in self.shown and "Aborted" not in self.shown
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.ours)
        os.close(self.theirs)


@pytest.mark.parametrize("key_or_signal", ["q", "interrupt"])
def test_the_live_table_updates_until_the_user_leaves(busy, key_or_signal):
    terminal = Terminal(busy.address)
    terminal.wait_for("1 running, 1 waiting")
    terminal.wait_for("/1000000")
    (first, *_) = re.findall(r"(\d+)/1000000", terminal.shown)
    for _ in range(5):
        terminal.wait_for("/1000000")
    assert int(re.findall(r"(\d+)/1000000", terminal.shown)[-1]) > int(first)
    # An arrow key does not end the command.
    os.write(terminal.ours, b"\x1b[A")
    terminal.wait_for("running")
    if key_or_signal == "q":
        os.write(terminal.ours, b"q")
    else:
        terminal.process.send_signal(signal.SIGINT)
    terminal.check_exit()


def test_a_swallowed_keyboard_interrupt_is_noticed():
    before = signal.getsignal(signal.SIGINT)
    with _interrupts() as interrupted:
        assert not interrupted()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            pytest.fail("KeyboardInterrupt was not raised")
        assert interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_live_table_reports_a_server_that_was_killed():
    with ServerProcess() as server:
        terminal = Terminal(server.address)
        terminal.wait_for("no jobs yet")
        server.process.kill()
        server.process.wait()
        terminal.wait_for("cannot be reached")
        os.write(terminal.ours, b"q")
        terminal.check_exit()
