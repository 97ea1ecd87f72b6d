"""`gramophone server`: the servers of this user on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import time

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
    for record in _kept():
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while left := _kept():
        if time.monotonic() > deadline:
            fail(f"process {left[0].pid} does not leave", 1)
        time.sleep(0.1)


def _kept() -> list[runtime.Record]:
    return [record for record in runtime.running() if record.kept]
