"""Running servers of this user on this machine: a private folder with a record of each."""

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
"""Variables of settings that describe the machine; servers started for a program or a command use only these."""
# Variables that determine the folder of models, and prefixes of variables for the devices and their libraries.
_MODELS = ("GRAMOPHONE_MODELS", "XDG_DATA_HOME", "HOME")
_DEVICES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH", "PYTORCH", "ORT_", "LD_", "PYTHONPATH", *MACHINE[:3])


@dataclass(frozen=True, repr=False)
class Record(Value):
    """The record of a running server.

    Attributes:
        address: address of the server.
        pid: id of its process.
        setting: value of `setting()` in its process.
        kept: for a background server of commands, the value of `environment()` of the command that started it; else
            empty.
        url: URL of HTTP; empty without HTTP.
    """

    address: str
    pid: int
    setting: str
    kept: str = ""
    url: str = ""


def setting() -> str:
    """Returns a hash of the package's version and the folder of models; 16 hexadecimal digits.

    A server with the same hash has the same models.
    """
    return _digest([version("gramophone"), *(os.environ.get(name, "") for name in _MODELS)])


def environment() -> str:
    """Returns a hash of `setting()`, the code, the devices and their libraries; 16 hexadecimal digits."""
    devices = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_DEVICES))
    return _digest([setting(), sys.prefix, str(Path(__file__).parent), *devices])


def server_environment() -> dict[str, str]:
    """Returns the environment for a server that is started for a program or a command.

    It contains no $GRAMOPHONE_* variables except those in MACHINE: with a port, a certificate or tokens that are set
    for another server, the program could not connect to its own.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("GRAMOPHONE_") or name in MACHINE}


def folder() -> Path | None:
    """Returns the folder of the records, which only this user can enter; None if the system does not allow one.

    The folder is gramophone in $XDG_RUNTIME_DIR, else gramophone/run in $XDG_DATA_HOME or ~/.local/share.
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
    # A folder or link of another user could point to a server of that user.
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return path.resolve() if is_ours else None


def data_home() -> Path:
    """Returns the user's data folder of Gramophone: gramophone in $XDG_DATA_HOME or ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "gramophone"


def running() -> list[Record]:
    """Returns the running servers of this user, the latest first; removes records of servers that have ended."""
    where = folder()
    found = []
    for path in sorted(where.glob("*.json"), key=_age) if where is not None else ():
        with suppress(OSError, ValueError, TypeError), path.open() as file:
            if _is_unlocked(file):
                path.unlink()
            else:
                found.append(Record(**json.load(file)))
    return found


@contextmanager
def registered(record: Record) -> Iterator[None]:
    """Writes a record of this process's server for the duration of the block, if there is a folder for it.

    The record is locked during that time: an unlocked record means that its server was killed.
    """
    where = folder()
    if where is None:
        yield
        return
    path = where / f"{record.pid}.json"
    with ExitStack() as stack:
        # Lock the file before it gets its name, so that no command sees it unlocked.
        with atomic_path(path) as fresh:
            file = stack.enter_context(fresh.open("x"))
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(asdict(record), file)
            file.flush()
        stack.callback(path.unlink, missing_ok=True)
        yield


def _is_unlocked(file: IO[str]) -> bool:
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
