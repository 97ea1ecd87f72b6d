"""Ways in which a server's storage can be away for some time: each really so, and ended when its `with` block ends."""

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

import pytest

from tests.postgres import Postgres

Outage = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def lock_held(database: Path) -> Iterator[None]:
    """Another process's transaction that writes to the SQLite database, and does not end."""
    # In this process it would be another connection's lock: the same to SQLite.
    connection = sqlite3.connect(database, isolation_level=None, timeout=20)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@contextlib.contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    """A folder that has another name for some time."""
    elsewhere = folder.with_name(folder.name + "-elsewhere")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


@contextlib.contextmanager
def replaced_by_a_file(folder: Path) -> Iterator[None]:
    """A file where a folder was."""
    with moved_away(folder):
        folder.write_text("a file")
        try:
            yield
        finally:
            folder.unlink()


@contextlib.contextmanager
def replaced_by_an_empty_folder(folder: Path) -> Iterator[None]:
    """An empty folder where a full one was, as below a mount that is away; nothing must be written to it."""
    with moved_away(folder):
        folder.mkdir()
        try:
            yield
        finally:
            left = list(folder.iterdir())
            shutil.rmtree(folder)
            assert not left, "the server has written to a folder that is not its own"


@contextlib.contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """A mount that is taken away though its files are in use, and comes back; an empty folder is below it."""
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
        assert not left, "the server has written to the folder below the mount"


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """A file system without a free byte."""
    filler = fill(folder)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def stopped(postgres: Postgres, mode: str) -> Iterator[None]:
    """A PostgreSQL server that is shut down, or (mode "immediate") crashes, and is started again."""
    postgres.stop(mode)
    try:
        yield
    finally:
        postgres.start()


@contextlib.contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    """A PostgreSQL server that takes everything and answers nothing, as behind a broken network."""
    postgres.freeze()
    try:
        yield
    finally:
        postgres.thaw()


@contextlib.contextmanager
def read_only(postgres: Postgres) -> Iterator[None]:
    """A PostgreSQL server that takes no writes, as one that others have put behind another."""
    postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
        postgres.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def table_locked(postgres: Postgres) -> Iterator[None]:
    """A table that somebody works on."""
    import psycopg

    with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
        connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        yield


@contextlib.contextmanager
def connections_killed(postgres: Postgres) -> Iterator[None]:
    """All connections that there are end, a few times in a row; new ones are taken."""
    for _ in range(5):
        postgres.kill_connections()
        time.sleep(0.1)
    yield


def fill(folder: Path) -> Path:
    """Takes all the room there is; the file that does."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "8m") -> Iterator[Path]:
    """A file system of its own in memory; skips the test where there can be none."""
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
