"""The background server for this user's commands: found if one is running, else started.

It serves on a socket in a folder that only this user can enter, stores its jobs on disk, and exits after some minutes
without work. The next command then starts another server, which has the same jobs.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from .. import runtime
from ..embedded import GREETING, NEEDED
from .console import note

# Default seconds without work after which the background server exits.
_DEFAULT_KEEP = 300.0
# Limits of its stored jobs: commands save results themselves, so jobs are needed later only after a lost terminal.
_RETENTION = ("--keep-days", "7", "--keep", "4GiB")
# Maximum length of a socket's path in bytes.
_MAX_SOCKET_PATH = 100
# Maximum seconds to wait for a server that is exiting.
_EXIT_TIMEOUT = 20.0
# Delete the data of an environment if its server was not started for this many seconds.
_MAX_AGE = 30 * 24 * 3600


def keep_seconds() -> float:
    """Returns $GRAMOPHONE_KEEP: seconds without work after which the background server exits; 0 for no such server.

    Raises:
        click.UsageError: the value is not a number of seconds from 0 to 30 days.
    """
    text = os.environ.get("GRAMOPHONE_KEEP") or str(_DEFAULT_KEEP)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 30 * 24 * 3600:
        raise click.UsageError(
            f"$GRAMOPHONE_KEEP is {text!r}, but must be seconds, such as 300, or 0 for no background server"
        )
    return seconds


def find() -> str | None:
    """Returns the address of a running server of this user: one started by hand, else the background server."""
    if not keep_seconds():
        return None
    environment, setting = runtime.environment(), runtime.setting()
    records = [record for record in runtime.running() if record.kept in ("", environment)]
    fitting = [record for record in records if record.setting == setting]
    return next((record.address for record in sorted(fitting, key=lambda record: record.kept != "")), None)


def has_jobs() -> bool:
    """Whether an earlier background server has left jobs for the next one."""
    return bool(keep_seconds()) and (_data() / "jobs.sqlite").exists()


def find_or_start(*, quiet: bool = False) -> str | None:
    """Returns the address of a running server like `find`, else starts one; None if that is not possible."""
    if (address := find()) is not None or not keep_seconds():
        return address
    folder = runtime.folder()
    if folder is None or not all(importlib.util.find_spec(name) for name in NEEDED):
        return None
    socket = folder / f"{runtime.environment()[:8]}-{os.getpid()}.sock"
    if len(os.fsencode(socket)) > _MAX_SOCKET_PATH:
        return None
    with _start_lock(folder):
        # Another command may have started a server in the meantime.
        return find() or _start(socket, quiet=quiet)


def _data() -> Path:
    return runtime.data_home() / "commands" / runtime.environment()


@contextlib.contextmanager
def _start_lock(folder: Path) -> Iterator[None]:
    """Locks the block so that no other command starts a server at the same time."""
    import fcntl

    with (folder / "starting.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(socket: Path, *, quiet: bool) -> str | None:
    _remove_sockets(socket.parent)
    _remove_old_data()
    deadline = time.monotonic() + _EXIT_TIMEOUT
    while (address := _launch(socket)) is None and time.monotonic() < deadline and _is_folder_in_use():
        # The previous server is exiting and still uses the folder of the jobs.
        time.sleep(0.3)
    if address is None:
        return None
    if not quiet:
        seconds = keep_seconds()
        note(
            f"started a background server for this and later commands; it exits after {seconds:g} s without work "
            "(`gramophone server stop` stops it, GRAMOPHONE_KEEP=0 disables it)"
        )
    return address


def _launch(socket: Path) -> str | None:
    """Starts a server and waits until it serves; returns its address, or None if it could not start."""
    data = _data()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "gramophone_server", "--host", f"unix:{socket}", "--data", str(data),
        "--leave-after", f"{max(1.0, keep_seconds()):g}", "--kept-for", runtime.environment(),
        "--log-level", "warning", *_RETENTION,
    ]  # fmt: skip
    with (data / "server.log").open("w") as log, ThreadPoolExecutor(1) as starter:
        # In its own session, it does not get Ctrl-C or the hangup of the terminal. In a thread, which no signal
        # interrupts, the process is known once it exists.
        starting = starter.submit(
            subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            cwd=socket.parent, env=_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            process = starting.result()
            assert process.stdout is not None
            line = process.stdout.readline()
        except BaseException:
            # This command is being interrupted: do not leave a server behind that is still starting.
            with starting.result() as process:
                process.kill()
            raise
    process.stdout.close()
    if line.startswith(GREETING):
        # The server outlives this command: pretend that it was waited for, so that Popen gives no warning.
        process.returncode = 0
        return line.removeprefix(GREETING).strip()
    process.wait()
    return None


def _is_folder_in_use() -> bool:
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
    """Removes the data of environments whose servers have not been started for a long time."""
    for log in _data().parent.glob("*/server.log"):
        with contextlib.suppress(OSError):
            if time.time() - log.stat().st_mtime > _MAX_AGE and not _is_locked(log.with_name("lock")):
                shutil.rmtree(log.parent)


def _is_locked(path: Path) -> bool:
    import fcntl

    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
