"""Jobs to interrupt, and what an undisturbed run makes of them."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gramophone.v1 import job_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, events, style_request

# One thread rounds the same however busy the machine is, and small jobs are no faster with more.
ALONE = ("--threads", "1")
# Checkpoints so close that most interruptions find one.
OFTEN = (*ALONE, "--checkpoint-every", "0.05")


def request(seed: int, iterations: int = 300, **fields: Any) -> pb.ReconstructStyleRequest:
    """A job of some seconds that outlives its stream."""
    preview = options_pb2.PreviewOptions(every=0)
    made = style_request(seed=seed, size=32, iterations=iterations, report_every=5, preview=preview, **fields)
    made.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    return made


def undisturbed(requests: list[pb.ReconstructStyleRequest]) -> list[bytes]:
    """The pictures of the requests' jobs, each run in peace."""
    with ServerProcess(*ALONE) as server:
        return [picture(server, one) for one in requests]


def picture(server: ServerProcess, one: pb.ReconstructStyleRequest) -> bytes:
    """The picture of a job that must succeed."""
    last = list(events(server.style.ReconstructStyle(one)))[-1]
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last.error
    return last.result.image.data


def in_background(act: Callable[[], None]) -> threading.Thread:
    """Runs something beside the test."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def at_random_moments(times: int, act: Callable[[], bool], *, seed: int, most: float) -> int:
    """Does something so many times, at moments up to `most` seconds apart, until it says that it cannot; how often."""
    rng = random.Random(seed)
    for done in range(times):
        time.sleep(rng.uniform(0.05, most))
        if not act():
            return done
    return times


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a data folder."""
    return list((folder / "checkpoints").glob("*.pt"))
