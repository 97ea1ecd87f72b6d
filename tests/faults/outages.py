"""Real outages of a server's storage, each for the length of its `with` block."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest

from tests.postgres import Postgres

Outage = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def lock_held(database: Path) -> Iterator[None]:
    """Holds a write transaction open on the SQLite database, as another process might."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=20)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@contextlib.contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    """Renames a folder."""
    elsewhere = folder.with_name(folder.name + "-elsewhere")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


@contextlib.contextmanager
def replaced_by_a_file(folder: Path) -> Iterator[None]:
    """Puts a file in place of a folder."""
    with moved_away(folder):
        folder.write_text("a file")
        try:
            yield
        finally:
            folder.unlink()


@contextlib.contextmanager
def replaced_by_an_empty_folder(folder: Path) -> Iterator[None]:
    """Puts an empty folder in place of a folder, as under a lost mount; checks that nothing is written to it."""
    with moved_away(folder):
        folder.mkdir()
        try:
            yield
        finally:
            left = list(folder.iterdir())
            shutil.rmtree(folder)
            assert not left, "the server has written to the empty folder in place of its own"


@contextlib.contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """Unmounts a folder whose files are in use (lazily) and mounts it again; an empty folder is under the mount."""
    kept = folder.with_name(folder.name + "-kept")
    kept.mkdir()
    _mount("--bind", folder, kept)
    subprocess.run(["umount", "-l", str(folder)], check=True)
    try:
        yield
    finally:
        left = list(folder.iterdir())
        _mount("--bind", kept, folder)
        subprocess.run(["umount", "-l", str(kept)], check=True)
        kept.rmdir()
        assert not left, "the server has written to the folder under the mount"


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fills the folder's file system to the last byte."""
    filler = fill(folder)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def stopped(postgres: Postgres, mode: Literal["smart", "fast", "immediate"]) -> Iterator[None]:
    """Shuts a PostgreSQL server down, or lets it crash (mode "immediate"), and starts it again."""
    postgres.stop(mode)
    try:
        yield
    finally:
        postgres.start()


@contextlib.contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    """Suspends a PostgreSQL server: connections stay open without an answer, as over a broken network."""
    postgres.freeze()
    try:
        yield
    finally:
        postgres.thaw()


@contextlib.contextmanager
def read_only(postgres: Postgres) -> Iterator[None]:
    """Lets a PostgreSQL server refuse writes, like a standby."""
    postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
        postgres.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def table_locked(postgres: Postgres) -> Iterator[None]:
    """Locks the table of jobs for every other connection."""
    import psycopg

    with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
        connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        yield


@contextlib.contextmanager
def connections_killed(postgres: Postgres) -> Iterator[None]:
    """Terminates all connections to PostgreSQL, five times; it accepts new ones."""
    for _ in range(5):
        postgres.kill_connections()
        time.sleep(0.1)
    yield


def fill(folder: Path) -> Path:
    """Writes a file until the file system is full, and returns its path."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "8m") -> Iterator[Path]:
    """Mounts a file system in memory; skips the test where that is not possible."""
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    except subprocess.CalledProcessError:
        pytest.skip("mounting a small file system needs Linux and root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*args: object) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs Linux and root")
    subprocess.run(["mount", *map(str, args)], check=True, capture_output=True)
