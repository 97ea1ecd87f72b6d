"""A real PostgreSQL server of the tests' own, which may be stopped, killed and started again."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

_OFTEN = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
# Nothing of a test outlives its machine, and commits are many times faster so.
_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=16MB")


class Postgres:
    """A server with a data folder of its own on a free loopback port. It is root's to start, but runs as `postgres`.

    Args:
        programs: the folder of `initdb` and `pg_ctl`.
        folder: where its data go; the server's user may write there.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "log"
        self._folder = folder
        self.port = _free_port()
        self._run("initdb", "-D", str(self._data), "-U", "gramophone", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases, as `--database` takes it."""
        return f"postgresql+psycopg://gramophone@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}"]
        options = " ".join(f"-c {setting}" for setting in (*settings, *_SETTINGS))
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-o", options, "-w", "start")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stops it: "fast" ends all connections in an orderly way, "immediate" as a crash does."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def restart(self) -> None:
        """Stops and starts it."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Ends it and all its processes as a crash does, without a word to its clients' transactions."""
        self.stop("immediate")

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return (self._data / "postmaster.pid").exists()

    def make(self, name: str | None = None) -> str:
        """Makes an empty database; its URL."""
        name = name or f"test_{secrets.token_hex(6)}"
        self.query(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drops the database of a URL, whoever is connected to it."""
        self.query(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def query(self, statement: str, database: str = "postgres") -> str:
        """Runs a statement as the superuser; what it answers, unaligned and without headers."""
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "gramophone", "-d", database)
        return self._run("psql", *address, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement)

    def _run(self, program: str, *args: str) -> str:
        command = [str(self._programs / program), *args]
        # A server that is started keeps its standard output open, so that a pipe would never end: hence the file.
        with tempfile.TemporaryFile("w+") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd="/", **_as_user()).returncode
            output.seek(0)
            said = output.read()
        if code:
            raise RuntimeError(f"{program} failed: {said}")
        return said.strip()


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL server, removed at the end; skips the test where it cannot be had."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl, psql) is not installed: on Debian, `apt-get install postgresql`")
    if os.geteuid() == 0 and not _as_user():
        pytest.skip("PostgreSQL does not run as root, and there is no user `postgres` to run it as")
    folder = Path(tempfile.mkdtemp(prefix="gramophone-postgres-"))
    server: Postgres | None = None
    try:
        if user := _as_user().get("user"):
            shutil.chown(folder, user)
        server = Postgres(programs, folder)
        server.start()
        yield server
    finally:
        if server is not None and server.running:
            with contextlib.suppress(RuntimeError):
                server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path | None:
    """The folder of PostgreSQL's programs, of the newest version there is; None if there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = [path for pattern in _OFTEN for path in Path("/").glob(pattern[1:]) if (path / "initdb").exists()]
    return max(folders, key=lambda path: [int(digits) for digits in re.findall(r"\d+", str(path))], default=None)


def _as_user() -> dict[str, str]:
    """How to run a program as somebody who is not root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(KeyError):
        return {"user": pwd.getpwnam("postgres").pw_name}
    return {}


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
