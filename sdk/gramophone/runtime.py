"""Servers of this user on this machine: a private folder with a record of each that runs."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from .brief import Value
from .files import atomic_path

if os.name == "posix":
    import fcntl

MACHINE = ("GRAMOPHONE_DEVICE", "GRAMOPHONE_THREADS", "GRAMOPHONE_MEMORY", "GRAMOPHONE_MODELS")
"""Settings that describe the machine, which servers that are started for a program or a command take from variables."""
# What decides where models are, and what a server that is started here runs on.
_MODELS = ("GRAMOPHONE_MODELS", "XDG_DATA_HOME", "HOME")
_DEVICES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH", "PYTORCH", "ORT_", "LD_", "PYTHONPATH", *MACHINE[:3])


@dataclass(frozen=True, repr=False)
class Record(Value):
    """A server that runs.

    Attributes:
        address: where it serves.
        pid: its process.
        setting: `setting()` where it was started.
        kept: `environment()` where it was started, of one that is kept for commands; empty for others.
    """

    address: str
    pid: int
    setting: str
    kept: str = ""


def setting() -> str:
    """Stands for the version and the models of a server that is started here, 16 hexadecimal digits."""
    return _digest([version("gramophone"), *(os.environ.get(name, "") for name in _MODELS)])


def environment() -> str:
    """The same for that, its code, its devices and their libraries."""
    devices = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_DEVICES))
    return _digest([setting(), sys.prefix, str(Path(__file__).parent), *devices])


def server_environment() -> dict[str, str]:
    """The environment of a server that is started for a program: without what is set for other servers and for clients.

    A port, a certificate or tokens would make it one that the program cannot reach.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("GRAMOPHONE_") or name in MACHINE}


def folder() -> Path | None:
    """The folder of the records, which only this user can enter; None where there can be none.

    It is gramophone in $XDG_RUNTIME_DIR, or else gramophone/run in $XDG_DATA_HOME or ~/.local/share.
    """
    if os.name != "posix":
        return None
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(runtime) / "gramophone" if runtime else data_home() / "run"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    # One that another user has made could lead anywhere.
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return path.resolve() if is_ours else None


def data_home() -> Path:
    """gramophone in $XDG_DATA_HOME or ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "gramophone"


def running() -> list[Record]:
    """The servers of this user that run, the latest first; records of others are removed."""
    where = folder()
    found = []
    for path in sorted(where.glob("*.json"), key=_age) if where is not None else ():
        with suppress(OSError, ValueError, TypeError), path.open() as file:
            if _is_free(file):
                path.unlink()
            else:
                found.append(Record(**json.load(file)))
    return found


@contextmanager
def registered(record: Record) -> Iterator[None]:
    """Keeps a record of this process's server for the length of the block, if there is a folder for it.

    The record is locked, so that nobody takes a server that was killed for one that runs.
    """
    where = folder()
    if where is None:
        yield
        return
    path = where / f"{record.pid}.json"
    with ExitStack() as stack:
        # Never there without its lock.
        with atomic_path(path) as fresh:
            file = stack.enter_context(fresh.open("x"))
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(asdict(record), file)
            file.flush()
        stack.callback(path.unlink, missing_ok=True)
        yield


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _age(path: Path) -> float:
    with suppress(OSError):
        return -path.stat().st_mtime
    return 0.0


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]
