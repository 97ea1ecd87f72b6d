"""The background server of the commands: all commands share it, it is private, and it exits when it has no work."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from gramophone_server.security.tokens import add_token
from tests.cli.quick import gramophone
from tests.cli.terminals import Terminal
from tests.harness import png, wait_until

SMALL = ["--size", "32", "--iterations", "3"]
LONG = ["--size", "32", "--iterations", "1000000", "--report-every", "5"]


class Home:
    """A user's folders, and commands that run with the user's `environment`."""

    def __init__(self, keep: str = "120") -> None:
        # A short prefix: the path of a Unix socket has at most about 100 characters.
        self.path = Path(tempfile.mkdtemp(prefix="gh-"))
        for name in ("run", "data"):
            (self.path / name).mkdir(mode=0o700)
        self.picture = self.path / "a.png"
        self.picture.write_bytes(png())
        self.environment: dict[str, Any] = {
            "XDG_RUNTIME_DIR": str(self.path / "run"),
            "XDG_DATA_HOME": str(self.path / "data"),
            "GRAMOPHONE_KEEP": keep,
        }

    def run(self, *args: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of this user."""
        command = [sys.executable, "-m", "gramophone", *map(str, args)]
        environment = os.environ | self.environment | more
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=self.path)

    def paint(self, name: str, *args: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Paints a small picture."""
        done = self.run("style", self.picture, *SMALL, "-o", name, *args, **more)
        assert done.returncode == 0, done.stderr
        assert Image.open(self.path / name).size == (32, 32)
        return done

    def servers(self) -> list[int]:
        """The process ids of this user's background servers."""
        lines = gramophone("server", "status", **self.environment).stdout.splitlines()
        return [int(line.split()[2]) for line in lines if " process " in line]

    def stop(self) -> None:
        """Stops the servers and removes the folders."""
        assert self.run("server", "stop").returncode == 0
        assert self.servers() == []
        shutil.rmtree(self.path)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A user whose background server is shared by the tests of this module."""
    made = Home()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def fresh() -> Iterator[Home]:
    """A user without a background server, for one test only."""
    made = Home()
    try:
        yield made
    finally:
        made.stop()


def test_the_second_command_uses_the_server_of_the_first(home: Home) -> None:
    first = home.paint("1.png")
    assert "started a background server for this and later commands" in first.stderr
    (server,) = home.servers()
    begun = time.monotonic()
    assert "started" not in home.paint("2.png").stderr
    assert time.monotonic() - begun < 10
    assert home.servers() == [server]
    listed = home.run("jobs", "list")
    assert len(listed.stdout.splitlines()) == 2, listed.stderr
    assert home.run("jobs", "top", "--once").stdout.count("succeeded") == 2


def test_the_server_is_private_to_its_user(home: Home) -> None:
    home.paint("1.png")
    folder = home.path / "run" / "gramophone"
    assert folder.stat().st_mode & 0o777 == 0o700
    (socket,) = folder.glob("*.sock")
    (server,) = home.servers()
    assert not [c for c in psutil.Process(server).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    if os.geteuid() == 0:
        home.path.chmod(0o755)
        folder.parent.chmod(0o755)
        looked = subprocess.run(["stat", socket], capture_output=True, text=True, user=65534)
        assert "Permission denied" in looked.stderr


def test_a_job_continues_when_its_terminal_is_lost(home: Home) -> None:
    home.paint("1.png")
    with Terminal("style", home.picture, *LONG, "-o", home.path / "lost.png", **home.environment) as shell:
        shell.wait_for("loss=")
        shell.hang_up()
        assert shell.end() == 129
    job_id, _, state = home.run("jobs", "list", "--limit", "1").stdout.split()[:3]
    assert state == "running"
    with Terminal("jobs", "watch", job_id[:14], **home.environment) as watcher:
        watcher.wait_for("loss=")
        watcher.press("\x03")
        assert watcher.end() == 130
        assert f"gramophone jobs watch {job_id}\r\n" in watcher.shown
    assert home.run("jobs", "cancel", job_id).returncode == 0


def test_the_result_of_a_detached_job_can_be_fetched_later(home: Home) -> None:
    done = home.run("style", home.picture, *SMALL, "--detach", "-q")
    assert done.returncode == 0, done.stderr
    assert home.run("jobs", "watch", done.stdout.strip(), "-o", "d.png").returncode == 0
    assert Image.open(home.path / "d.png").size == (32, 32)


def test_another_environment_gets_another_server(home: Home) -> None:
    home.paint("1.png")
    before = home.servers()
    models = home.path / "models"
    home.paint("2.png", GRAMOPHONE_MODELS=str(models))
    assert len(home.servers()) == len(before) + 1
    # The new server has the environment of the command that started it.
    (added,) = set(home.servers()) - set(before)
    assert psutil.Process(added).environ()["GRAMOPHONE_MODELS"] == str(models)


def test_variables_for_other_servers_are_ignored(fresh: Home) -> None:
    others = {
        "GRAMOPHONE_CONFIG": "nowhere.toml", "GRAMOPHONE_PORT": "many", "GRAMOPHONE_TOKENS": "nowhere.json",
        "GRAMOPHONE_TLS_KEY": "nowhere.pem", "GRAMOPHONE_KEEP_BYTES": "0", "GRAMOPHONE_LEAVE_AFTER": "1",
    }  # fmt: skip
    assert "started a background server" in fresh.paint("1.png", **others).stderr
    assert "started a background server" not in fresh.paint("2.png").stderr
    # Variables that describe the machine are used, so another value needs another server.
    assert "started a background server" in fresh.paint("3.png", GRAMOPHONE_THREADS="1").stderr
    assert len(fresh.servers()) == 2


def test_concurrent_commands_start_one_server(fresh: Home) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: fresh.paint(f"{i}.png"), range(3)))
    assert len(fresh.servers()) == 1


@pytest.mark.slow
def test_a_killed_server_is_replaced_and_its_jobs_are_kept(fresh: Home) -> None:
    done = fresh.run("style", fresh.picture, *LONG, "--detach", "-q", GRAMOPHONE_TOKEN="secret")
    job_id = done.stdout.strip()
    (server,) = fresh.servers()
    assert "GRAMOPHONE_TOKEN" not in psutil.Process(server).environ()
    children = psutil.Process(server).children(recursive=True)
    os.kill(server, signal.SIGKILL)
    psutil.wait_procs(children, 20)
    assert fresh.servers() == []
    assert job_id in fresh.run("jobs", "list").stdout
    (successor,) = fresh.servers()
    assert successor != server
    # The server has exited when `server stop` returns, and the next server continues the job.
    assert fresh.run("server", "stop").returncode == 0
    assert not psutil.pid_exists(successor) or psutil.Process(successor).status() == "zombie"
    wait_until(lambda: fresh.run("jobs", "show", job_id).stdout.split()[2] == "running", "the job to run again")
    assert len(list((fresh.path / "run" / "gramophone").glob("*.sock"))) == 1
    assert fresh.run("jobs", "cancel", job_id).returncode == 0


@pytest.mark.slow
def test_the_server_exits_only_when_it_has_no_work() -> None:
    home = Home(keep="3")
    try:
        job_id = home.run("style", home.picture, *LONG, "--detach", "-q").stdout.strip()
        (server,) = home.servers()
        time.sleep(5)
        assert home.servers() == [server]
        assert home.run("jobs", "cancel", job_id).returncode == 0
        wait_until(lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == "zombie", "its end", 30)
        assert home.servers() == []
        assert not list((home.path / "run" / "gramophone").glob("*.json"))
        # The next server has the jobs of this one.
        assert home.run("jobs", "show", job_id).stdout.split()[2] == "cancelled"
    finally:
        home.stop()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["open", "link", "file"])
def test_a_folder_that_is_not_private_is_not_used(spoil: str) -> None:
    home = Home()
    folder = home.path / "run" / "gramophone"
    if spoil == "open":
        folder.mkdir()
        folder.chmod(0o755)
    elif spoil == "link":
        folder.symlink_to(home.path / "data")
    else:
        folder.touch()
    assert "started a background server" not in home.paint("1.png").stderr
    assert home.servers() == []
    shutil.rmtree(home.path)


@pytest.mark.slow
def test_commands_use_a_server_that_the_user_started(fresh: Home) -> None:
    tokens = fresh.path / "tokens.json"
    add_token(tokens, "ann", admin=False)
    command = [sys.executable, "-m", "gramophone", "serve", "--port", "0"]
    environment = os.environ | fresh.environment
    started = []
    try:
        flags = (["--data", "one"], ["--data", "two", "--tokens", str(tokens)], ["--data", "three", "--models", "."])
        for chosen in flags:
            process = subprocess.Popen(
                [*command, *chosen], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=fresh.path
            )
            started.append(process)
            assert process.stdout is not None
            process.stdout.readline()
        assert fresh.servers() == [started[0].pid]
        assert "started a background server" not in fresh.paint("1.png").stderr
        assert len(fresh.run("jobs", "list").stdout.splitlines()) == 1
        # `server stop` does not stop a server that the user started.
        fresh.run("server", "stop")
        assert started[0].poll() is None
    finally:
        for process in started:
            process.terminate()
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.slow
def test_keep_0_starts_no_background_server(fresh: Home) -> None:
    assert "started a background server" not in fresh.paint("1.png", GRAMOPHONE_KEEP="0").stderr
    assert fresh.servers() == []


@pytest.mark.parametrize("value", ["x", "-1", "nan", "1e99"])
def test_an_invalid_gramophone_keep_is_refused(value: str) -> None:
    command = [sys.executable, "-m", "gramophone", "style", __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"GRAMOPHONE_KEEP": value})
    assert done.returncode == 2
    assert f"$GRAMOPHONE_KEEP is '{value}', but must be seconds" in done.stderr


@pytest.mark.slow
def test_ctrl_c_during_the_start_leaves_no_server(fresh: Home) -> None:
    with Terminal("style", fresh.picture, *SMALL, "-o", fresh.path / "1.png", **fresh.environment) as shell:
        wait_until(lambda: len(psutil.Process(shell.process.pid).children()) == 1, "a server that starts")
        (child,) = psutil.Process(shell.process.pid).children()
        shell.press("\x03")
        assert shell.end(30) == 130
    assert not psutil.pid_exists(child.pid) or child.status() == "zombie"


@pytest.mark.slow
def test_data_folders_unused_for_30_days_are_removed(fresh: Home) -> None:
    commands = fresh.path / "data" / "gramophone" / "commands"
    for name, age in (("old", 31), ("young", 29)):
        (commands / name).mkdir(parents=True)
        (commands / name / "server.log").touch()
        os.utime(commands / name / "server.log", (time.time() - age * 24 * 3600,) * 2)
    fresh.paint("1.png")
    assert not (commands / "old").exists()
    assert (commands / "young").exists()
