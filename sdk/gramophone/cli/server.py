"""`gramophone server`: the servers of this user on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from .. import runtime
from .console import fail, say

# Seconds in which a server has to be gone.
_PATIENCE = 20.0


@click.group()
def server() -> None:
    """Show and stop the servers that commands without --server use.

    Such a command uses a server that you run with `gramophone serve`, or else one that is kept in the background for a
    while. $GRAMOPHONE_KEEP says for how many seconds without work, 0 for none.
    """


@server.command()
def status() -> None:
    """List your servers that run here."""
    records = runtime.running()
    for record in records:
        say(f"{record.address}  process {record.pid}  {'kept for commands' if record.kept else 'gramophone serve'}")
    if not records:
        say("no server of yours runs here")


@server.command()
def stop() -> None:
    """Stop the servers that are kept for commands. Jobs that run go on when the next one starts."""
    processes = [record.pid for record in runtime.running() if record.kept]
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    # Its record is gone at once, so that no command comes any more; its jobs have to be put away first.
    while left := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            fail(f"process {left[0]} does not leave", 1)
        time.sleep(0.1)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        # One that has ended, and that nobody has waited for (Linux).
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return os.name == "posix" and not Path("/proc/self").exists()
    except ProcessLookupError:
        return False
