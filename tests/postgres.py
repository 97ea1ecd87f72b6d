"""A real PostgreSQL server for tests, which they may stop, freeze, kill and start again."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil
import pytest

_USER = "postgres"
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=")
# Test data need not survive a power failure, and commits are many times faster without fsync.
_QUICK = ("fsync=off", "full_page_writes=off")


class Postgres:
    """A PostgreSQL server on a free loopback port, which stops with its `with` block.

    Skips the test where PostgreSQL is not installed.

    Args:
        durable: whether commits are on disk when they return, as in production.

    Attributes:
        url: URL of its default database.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = find_programs()
        self._settings = _SETTINGS if durable else (*_SETTINGS, *_QUICK)
        # PostgreSQL does not run as root.
        self._as = {"user": _USER, "group": _USER} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="gramophone-postgres-"))
        if self._as:
            shutil.chown(self._folder, _USER, _USER)
        self._port = _free_port()
        self._run("initdb", "-A", "trust", "-U", "gramophone", "-N", "-E", "UTF8", "--locale=C.UTF-8", "-D", self._data)
        self.start()
        self.url = self._url("postgres")

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.thaw()
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Starts the server and waits until it accepts connections."""
        options = " ".join(f"-c {setting}" for setting in (f"port={self._port}", *self._settings))
        self._run("pg_ctl", "-D", self._data, "-w", "-o", options, "-l", self._folder / "log", "start")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stops the server: "fast" closes its connections, "immediate" is like a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def restart(self) -> None:
        """Stops the server and starts it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kills all processes of the server."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, 10)

    def freeze(self) -> None:
        """Suspends the server's processes: connections stay open and get no answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resumes the server's processes."""
        self._signal(signal.SIGCONT)

    def execute(self, statement: str) -> None:
        """Runs a statement over a separate connection, as another program would."""
        import psycopg

        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statement.encode())

    def kill_connections(self) -> None:
        """Terminates all connections except the one that this method opens."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def make(self) -> str:
        """Creates an empty database and returns its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def processes(self) -> list[psutil.Process]:
        """Returns the processes of the server; none if it does not run."""
        with contextlib.suppress(OSError, psutil.NoSuchProcess, ValueError):
            main = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
            return [main, *main.children(recursive=True)]
        return []

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://gramophone@127.0.0.1:{self._port}/{database}"

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _run(self, program: str, *args: str | Path) -> None:
        # No pipes: the server would inherit them and keep them open.
        command = [str(self._programs / program), *map(str, args)]
        subprocess.run(
            command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=60, **self._as,
        )  # type: ignore[call-overload]  # fmt: skip


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for one test."""
    with Postgres() as running:
        yield running


def find_programs() -> Path:
    """Returns the folder of the newest installed PostgreSQL's programs; skips the test if there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = [path for pattern in _FOLDERS for path in Path("/").glob(pattern[1:]) if (path / "initdb").exists()]
    if not folders:
        pytest.skip("PostgreSQL is not installed: on Debian, `apt-get install postgresql`")
    return max(folders, key=lambda path: [int(digits) for digits in re.findall(r"\d+", str(path))])


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
