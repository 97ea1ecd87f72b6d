"""The commands `gramophone server`, which show and stop this user's servers on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from .. import runtime
from .console import fail, say

# Seconds to wait for a server to end.
_STOP_TIMEOUT = 20.0


@click.group()
def server() -> None:
    """Show and stop the servers that commands without --server use.

    Such a command uses a server that you run with `gramophone serve`, else a background server, which it starts if
    needed. The background server ends after $GRAMOPHONE_KEEP seconds without work (default 300; 0 for no background
    server).
    """


@server.command()
def status() -> None:
    """List your running servers on this machine."""
    records = runtime.running()
    for record in records:
        say(f"{record.address}  process {record.pid}  {'background server' if record.kept else 'gramophone serve'}")
    if not records:
        say("none of your servers is running here")


@server.command()
def stop() -> None:
    """Stop the background servers. Their running jobs continue when the next one starts."""
    processes = [record.pid for record in runtime.running() if record.kept]
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT
    # Wait for the processes, not for the records: a server removes its record first, then it saves its jobs.
    while left := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            fail(f"process {left[0]} does not end", 1)
        time.sleep(0.1)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        # A zombie process (Linux) has ended.
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return os.name == "posix" and not Path("/proc/self").exists()
    except ProcessLookupError:
        return False
