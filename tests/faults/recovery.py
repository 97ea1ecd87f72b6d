"""Jobs that tests interrupt, and the pictures of the same jobs without an interruption."""

import random
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gramophone.v1 import job_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, events, style_request

# With one thread, rounding does not depend on how busy the machine is; small jobs are no faster with more.
ONE_THREAD = ("--threads", "1")
# Checkpoints so frequent that there is one at most interruptions.
FREQUENT_CHECKPOINTS = (*ONE_THREAD, "--checkpoint-every", "0.05")


def free_port() -> int:
    """Returns a loopback port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Restarting:
    """A server on a fixed port and data folder that can be killed and started again.

    Attributes:
        args: its arguments.
        server: the server as it was last started.
    """

    def __init__(self, folder: Path, *args: str) -> None:
        self.args = ("--data", str(folder), "--port", str(free_port()), *FREQUENT_CHECKPOINTS, *args)
        self.server = ServerProcess(*self.args)

    def kill(self) -> None:
        """Kills the server process."""
        self.server.process.kill()
        self.server.process.wait()

    def start(self) -> None:
        """Starts the server again at the same address."""
        self.server.channel.close()
        self.server = ServerProcess(*self.args)


def request(seed: int, iterations: int = 300, **fields: Any) -> pb.ReconstructStyleRequest:
    """Returns the request of a job of some seconds that continues without its stream."""
    preview = options_pb2.PreviewOptions(every=0)
    fields = {"size": 32, "report_every": 5, **fields}
    made = style_request(seed=seed, iterations=iterations, preview=preview, **fields)
    made.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    return made


def undisturbed(requests: list[pb.ReconstructStyleRequest]) -> list[bytes]:
    """Returns the pictures of the requests' jobs, each run without an interruption."""
    with ServerProcess(*ONE_THREAD) as server:
        return [picture(server, one) for one in requests]


def picture(server: ServerProcess, one: pb.ReconstructStyleRequest) -> bytes:
    """Runs a job, which must succeed, and returns its picture."""
    last = list(events(server.style.ReconstructStyle(one)))[-1]
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last.error
    return last.result.image.data


def in_background(act: Callable[[], object]) -> threading.Thread:
    """Runs a function in a thread beside the test."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def at_random_moments(times: int, act: Callable[[], bool], *, seed: int, most: float) -> int:
    """Calls `act` up to `times` times, 0.05 to `most` s apart, until it returns False; returns the number of calls."""
    rng = random.Random(seed)
    for done in range(times):
        time.sleep(rng.uniform(0.05, most))
        if not act():
            return done
    return times


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoint files in a data folder."""
    return list((folder / "checkpoints").glob("*.pt"))


def resumed_at(server: ServerProcess) -> list[int]:
    """Returns the iterations at which jobs of a server have continued from checkpoints, from its log."""
    return [int(found) for found in re.findall(r"resumes at iteration (\d+)", server.read_log())]
