"""The server that is kept for this user's commands: found where one runs, or else started in the background.

It serves on a socket in a folder that only this user can enter, keeps its jobs on the disk, and leaves when it has had
nothing to do for some minutes. The next command then starts another, which has the same jobs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from .. import runtime
from ..embedded import GREETING, NEEDED
from .console import note

# Seconds without work after which it leaves.
_DEFAULT_KEEP = 300.0
# What is kept of its jobs: results are saved by the commands, and fetched late only where a terminal was lost.
_RETENTION = ("--keep-days", "7", "--keep", "4GiB")
# Bytes that the path of a socket may have.
_LONGEST = 100
# Seconds for which a server that is about to leave is waited for.
_LEAVING = 20.0
# Seconds after which the jobs of an environment are forgotten whose server was not started meanwhile.
_OLD = 30 * 24 * 3600


def keep_seconds() -> float:
    """$GRAMOPHONE_KEEP: seconds without work after which the server leaves; 0 for none at all.

    Raises:
        click.UsageError: it is something else.
    """
    text = os.environ.get("GRAMOPHONE_KEEP") or str(_DEFAULT_KEEP)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 30 * 24 * 3600:
        raise click.UsageError(
            f"$GRAMOPHONE_KEEP is {text!r}, but must be seconds, such as 300, or 0 to keep no server"
        )
    return seconds


def find() -> str | None:
    """The address of a server of this user that runs here: one that he started, or the one kept for commands."""
    if not keep_seconds():
        return None
    environment, setting = runtime.environment(), runtime.setting()
    records = [record for record in runtime.running() if record.kept in ("", environment)]
    fitting = [record for record in records if record.setting == setting]
    return next((record.address for record in sorted(fitting, key=lambda record: record.kept != "")), None)


def has_jobs() -> bool:
    """Whether a kept server has been here, whose jobs the next one has."""
    return bool(keep_seconds()) and (_data() / "jobs.sqlite").exists()


def find_or_start(*, quiet: bool = False) -> str | None:
    """The same as `find`, of one that is started if none runs; None where none can be kept."""
    if (address := find()) is not None or not keep_seconds():
        return address
    folder = runtime.folder()
    if folder is None or not all(importlib.util.find_spec(name) for name in NEEDED):
        return None
    socket = folder / f"{runtime.environment()[:8]}-{os.getpid()}.sock"
    if len(os.fsencode(socket)) > _LONGEST:
        return None
    with _alone(folder):
        # Another command may have started one meanwhile.
        return find() or _start(socket, quiet=quiet)


def _data() -> Path:
    return runtime.data_home() / "commands" / runtime.environment()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The block in which no other command starts a server."""
    import fcntl

    with (folder / "starting.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(socket: Path, *, quiet: bool) -> str | None:
    _remove_sockets(socket.parent)
    _remove_old_data()
    deadline = time.monotonic() + _LEAVING
    while (line := _launched(socket)) is None and time.monotonic() < deadline and _is_taken():
        # The one before is about to leave, and has the folder of the jobs until then.
        time.sleep(0.3)
    if line is None:
        return None
    if not quiet:
        seconds = keep_seconds()
        note(
            f"started a server for this and your next commands; it leaves after {seconds:g} s without work "
            "(`gramophone server stop` ends it, GRAMOPHONE_KEEP=0 keeps none)"
        )
    return line


def _launched(socket: Path) -> str | None:
    """The address of a server that has been started; None if it could not be."""
    data = _data()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "gramophone_server", "--host", f"unix:{socket}", "--data", str(data),
        "--leave-after", f"{max(1.0, keep_seconds()):g}", "--kept-for", runtime.environment(),
        "--log-level", "warning", *_RETENTION,
    ]  # fmt: skip
    with (data / "server.log").open("w") as log:
        # In a session of its own, neither Ctrl-C nor a lost terminal is for it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, cwd=socket.parent,
            env=_environment(), start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
    except BaseException:
        # Nobody waits for it any more.
        process.kill()
        process.wait()
        raise
    finally:
        process.stdout.close()
    if line.startswith(GREETING):
        # It is not ours to wait for.
        process.returncode = 0
        return line.removeprefix(GREETING).strip()
    process.wait()
    return None


def _is_taken() -> bool:
    return "is another server's" in (_data() / "server.log").read_text(errors="replace")


def _environment() -> dict[str, str]:
    environment = runtime.server_environment()
    environment.pop("GRPC_VERBOSITY", None)
    if path := environment.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep))
    return environment


def _remove_sockets(folder: Path) -> None:
    """Removes the sockets of servers that were killed."""
    used = {record.address.removeprefix("unix:") for record in runtime.running()}
    for path in folder.glob("*.sock"):
        if str(path) not in used:
            path.unlink(missing_ok=True)


def _remove_old_data() -> None:
    """Removes what servers of other environments have left that have not been started for long."""
    for log in _data().parent.glob("*/server.log"):
        with contextlib.suppress(OSError):
            if time.time() - log.stat().st_mtime > _OLD and not _is_locked(log.with_name("lock")):
                shutil.rmtree(log.parent)


def _is_locked(path: Path) -> bool:
    import fcntl

    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
