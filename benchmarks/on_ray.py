"""Jobs an hour of two workers on Ray nodes, compared with one."""

import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

import gramophone
from examples.ray_nodes import free_port, head, node, own_address
from tests.harness import ServerProcess

from .inputs import UnavailableError, picture

JOBS, SIZE, ITERATIONS, ROUNDS = 8, 96, 60, 3


def measure() -> dict:
    """Measures the ratio, with each node on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if importlib.util.find_spec("ray") is None or len(cores) < 2:
        raise UnavailableError("needs ray and two cores")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as temporary:
        folder = Path(temporary)
        with (
            head(folder, port),
            node(folder, port, "node-1", core=cores[0]),
            node(folder, port, "node-2", core=cores[1]),
        ):
            # In turn, so that a busy moment of the machine meets both.
            rounds = [(_seconds(port, 1), _seconds(port, 2)) for _ in range(ROUNDS)]
    one, two = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    row = {
        "one worker": f"{one:.1f} s",
        "two workers": f"{two:.1f} s",
        "times jobs an hour": f"{one / two:.2f}",
        "bar": "≥ 1.9",
    }
    how = (
        f"{JOBS} style reconstructions of {SIZE}x{SIZE}, {ITERATIONS} iterations, submitted at once through the SDK to "
        "a server with --executor ray and one thread for each worker, on two Ray nodes of this machine that have one "
        f"core each; the median of {ROUNDS} rounds."
    )
    return {"title": "Workers on Ray", "how": how, "rows": [row]}


def _seconds(port: int, workers: int) -> float:
    """Returns the seconds until all jobs have ended, after a first job on each worker."""
    arguments = (
        "--executor", "ray", "--ray-address", f"{own_address()}:{port}", "--device", "cpu", "--threads", "1",
        "--ray-workers", str(workers),
    )  # fmt: skip
    with ServerProcess(*arguments) as server, gramophone.Client(server.address) as client:
        _paint(client, 2 * workers)
        begun = time.perf_counter()
        _paint(client, JOBS)
        return time.perf_counter() - begun


def _paint(client: gramophone.Client, number: int) -> None:
    style = picture(SIZE)
    jobs = [client.style(style, size=SIZE, iterations=ITERATIONS, seed=seed) for seed in range(number)]
    for job in jobs:
        job.result()
