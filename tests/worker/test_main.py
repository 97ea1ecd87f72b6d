"""The process of a worker gets its settings as the first message over its pipe."""

import json
import socket
import subprocess
import sys

import pytest

from tests.harness import ServerProcess, run, style_request

pytestmark = pytest.mark.service


def test_settings_are_sent_over_the_pipe() -> None:
    with ServerProcess("--threads", "1", "--log-level", "debug", "--checkpoint-every", "7") as server:
        recipe = json.loads(run(server, style_request()).recipe_json)
        (worker,) = server.workers()
        module, option, descriptor = worker.cmdline()[-3:]
    assert recipe["threads"] == 1
    assert (module, option) == ("gramophone_server.worker", "--fd")
    assert descriptor.isdigit()


def test_a_worker_exits_at_once_when_its_front_has_exited() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        command = [sys.executable, "-m", "gramophone_server.worker", "--fd", str(theirs.fileno())]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
