"""Ctrl-C, a lost terminal and SIGTERM: a command that watches never cancels a job, and a job can be watched again."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gramophone.v1 import job_service_pb2
from tests.cli.terminals import Terminal
from tests.cli.test_commands import gramophone
from tests.harness import ServerProcess, png, wait_until
from tests.sdk.flaky_server import FlakyServer

LONG = ["--size", "32", "--iterations", "1000000", "--report-every", "5"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    return path


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[FlakyServer]:
    """A server whose jobs take about three seconds, with one job."""
    with FlakyServer(tmp_path / "flaky", pace=0.25) as server:
        (server.folder / "jobs" / "0653aa").touch()
        yield server


def states(server: ServerProcess) -> dict[str, int]:
    """The state of each job, by id."""
    jobs = server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs
    return {job.id: job.state for job in jobs}


def id_in(text: str) -> str:
    """Returns the first job id in the text."""
    (job_id, *_) = re.findall(r"job ([0-9a-f]{30})", text)
    return job_id


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda terminal: terminal.press("\x03"), 130),
        (lambda terminal: terminal.process.send_signal(signal.SIGTERM), 143),
        (lambda terminal: terminal.process.send_signal(signal.SIGHUP), 129),
        (lambda terminal: terminal.hang_up(), 129),
    ],
    ids=["ctrl-c", "term", "hup", "hangup"],
)
def test_ending_a_watch_command_does_not_cancel_the_job(slow: FlakyServer, act, status: int) -> None:
    with Terminal("jobs", "watch", "0653", "-o", "out.png", "--server", slow.address) as terminal:
        terminal.wait_for("2/10")
        act(terminal)
        hung_up = terminal.ours < 0
        assert terminal.end() == status
        assert slow.calls("CancelJob") == []
        if not hung_up:
            assert "job 0653aa continues" in terminal.shown
            assert f"gramophone jobs watch 0653aa -o out.png --server {slow.address}" in terminal.shown
            assert f"gramophone jobs cancel 0653aa --server {slow.address}" in terminal.shown


@pytest.mark.parametrize(
    ("stop_signal", "status"), [(None, 129), (signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=str
)
def test_a_job_continues_when_its_command_is_killed(
    server: ServerProcess, picture: Path, stop_signal: signal.Signals | None, status: int
) -> None:
    """`stop_signal` is the signal that ends the command; None closes its terminal."""
    out = picture.with_name("out.png")
    with Terminal("style", picture, *LONG, "-o", out, "--server", server.address) as shell:
        shell.wait_for("loss=")
        job_id = id_in(shell.shown)
        assert f"gramophone jobs watch {job_id} -o {out}" in shell.shown.replace("\r\n", "")
        shell.hang_up() if stop_signal is None else shell.process.send_signal(stop_signal)
        assert shell.end() == status
    assert gramophone("jobs", "show", job_id, "--server", server.address).stdout.split()[2] == "running"
    assert gramophone("jobs", "cancel", job_id, "--server", server.address).returncode == 0


def test_the_printed_command_saves_the_result_later(slow: FlakyServer, picture: Path) -> None:
    out = picture.with_name("later.png")
    with Terminal("style", picture, "-o", out, "--server", slow.address) as shell:
        shell.wait_for("2/10")
        (command,) = set(
            re.findall(r"gramophone (jobs watch \S+ -o \S+ --server [0-9.:]+)", shell.shown.replace("\r\n", ""))
        )
        shell.hang_up()
        assert shell.end() == 129
    done = gramophone(*command.split())
    assert done.returncode == 0, done.stderr
    assert Image.open(out).size == (1, 1)


def test_ctrl_c_cancels_the_job_and_says_so(server: ServerProcess, picture: Path) -> None:
    with Terminal("style", picture, *LONG, "-o", picture.with_name("out.png"), "--server", server.address) as shell:
        shell.wait_for("loss=")
        job_id = id_in(shell.shown)
        shell.press("\x03")
        assert shell.end() == 130
        assert f"canceling job {job_id}; press Ctrl-C again to exit at once" in shell.shown
        assert f"job {job_id} was canceled" in shell.shown


def test_a_second_ctrl_c_exits_at_once(slow: FlakyServer, picture: Path) -> None:
    """The server accepts CancelJob but never cancels the job, so the command would wait."""
    with Terminal("style", picture, "-o", picture.with_name("out.png"), "--server", slow.address) as shell:
        shell.wait_for("1/10")
        shell.press("\x03")
        shell.wait_for("press Ctrl-C again to exit at once")
        wait_until(lambda: len(slow.calls("CancelJob")) == 1, "the call that cancels")
        shell.press("\x03")
        assert shell.end() == 130
        assert "10/10" not in shell.shown
        assert "exited before the server confirmed" in shell.shown


@pytest.mark.slow
def test_a_command_under_nohup_ignores_sighup(slow: FlakyServer, picture: Path) -> None:
    args = ["style", picture, "-o", picture.with_name("out.png"), "--server", slow.address]
    command = ["nohup", sys.executable, "-m", "gramophone", *map(str, args)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: slow.calls("ReconstructStyle") != [], "the job")
    process.send_signal(signal.SIGHUP)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "out.png: 1x1" in out


@pytest.mark.parametrize("args", [["jobs", "list"], ["jobs", "download", "0653aa", "-o", "out.png"]], ids=str)
def test_ctrl_c_in_commands_without_a_job_prints_no_traceback(
    slow: FlakyServer, args: list[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    slow.script("ListJobs hang 20", "DownloadResult hang 20")
    with Terminal(*args, "--server", slow.address) as terminal:
        method = "ListJobs" if "list" in args else "DownloadResult"
        wait_until(lambda: slow.calls(method) != [], "the call")
        terminal.press("\x03")
        assert terminal.end(10) == 130
    assert not (tmp_path / "out.png").exists()


def test_ctrl_c_during_the_start_of_a_server(picture: Path) -> None:
    """The command prints no traceback and leaves no server."""
    with Terminal("style", picture, *LONG, TMPDIR=str(picture.parent), GRAMOPHONE_KEEP="0") as shell:
        wait_until(lambda: children(shell.process.pid) != [], "a server that starts")
        (child,) = children(shell.process.pid)
        shell.press("\x03")
        assert shell.end(30) == 130
    wait_until(
        lambda: not Path(f"/proc/{child}").exists() or "State:\tZ" in Path(f"/proc/{child}/status").read_text(),
        "its end",
    )


def children(pid: int) -> list[int]:
    """The ids of the child processes, of all threads."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def test_detach_prints_the_id_of_the_running_job(server: ServerProcess, picture: Path) -> None:
    done = gramophone("style", picture, *LONG, "--detach", "--server", server.address)
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    assert f"gramophone jobs watch {job_id} -o out.png --server {server.address}" in done.stderr
    wait_until(lambda: states(server)[job_id] == 2, "a running job")
    assert gramophone("jobs", "cancel", job_id, "--server", server.address).returncode == 0
    quiet = gramophone(
        "style", picture, "--size", "32", "--iterations", "2", "--detach", "-q", GRAMOPHONE_SERVER=server.address
    )
    assert re.fullmatch(r"[0-9a-f]{30}\n", quiet.stdout) and quiet.stderr == ""


def test_detach_needs_a_server_that_keeps_running(picture: Path) -> None:
    done = gramophone("style", picture, "--detach", GRAMOPHONE_KEEP="0")
    assert done.returncode == 2
    assert "--detach needs a server that keeps running" in done.stderr


@pytest.mark.slow
def test_an_error_when_saving_says_how_to_fetch_the_result(slow: FlakyServer, picture: Path) -> None:
    out = picture.with_name("out.png")
    with Terminal("style", picture, "-o", out, "--server", slow.address) as shell:
        shell.wait_for("1/10")
        out.mkdir()
        assert shell.end() == 1
        assert "cannot be written" in shell.shown
        assert "is still on the server; to watch it:  gramophone jobs watch" in shell.shown
