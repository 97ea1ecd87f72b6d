"""Jobs an hour of two workers on Ray nodes, compared with one."""

import contextlib
import importlib.util
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

import gramophone
from examples.ray_nodes import free_port, head, node, own_address
from tests.harness import ServerProcess

from .inputs import UnavailableError, picture

JOBS, SIZE, ITERATIONS, ROUNDS = 8, 224, 80, 3


def measure() -> dict:
    """Measures the ratio, with each node on a core of its own, and that of servers that share only the machine."""
    cores = sorted(os.sched_getaffinity(0))[:2]
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
            # In turn, so that a busy moment of the machine meets all.
            rounds = [
                (_on_ray(port, 1), _on_ray(port, 2), _separate(cores[:1]), _separate(cores)) for _ in range(ROUNDS)
            ]
    ray_one, ray_two, one, two = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    rows = [
        _row("workers on Ray", ray_one, ray_two, f"≥ 1.9, or {0.95 * one / two:.2f} on this machine"),
        _row("servers that share only the machine", one, two, ""),
    ]
    how = (
        f"{JOBS} style reconstructions of {SIZE}x{SIZE}, {ITERATIONS} iterations, submitted at once through the SDK to "
        "a server with --executor ray and one thread for each worker, on two Ray nodes of this machine that have one "
        "core each; then to one or two servers with a local worker, each on a core of its own with half of the jobs: "
        "two virtual cores can be less than twice as fast as one, and 95 % of that ratio is as good as 1.9 of 2. The "
        f"median of {ROUNDS} rounds."
    )
    return {"title": "Workers on Ray", "how": how, "rows": rows}


def _row(what: str, one: float, two: float, bar: str) -> dict[str, str]:
    return {
        "what": what,
        "one": f"{one:.1f} s",
        "two": f"{two:.1f} s",
        "times jobs an hour": f"{one / two:.2f}",
        "bar": bar,
    }


def _on_ray(port: int, workers: int) -> float:
    """Returns the seconds until all jobs on Ray have ended, after a first job on each worker."""
    arguments = (
        "--executor", "ray", "--ray-address", f"{own_address()}:{port}", "--device", "cpu", "--threads", "1",
        "--ray-workers", str(workers),
    )  # fmt: skip
    with ServerProcess(*arguments) as server, gramophone.Client(server.address) as client:
        _paint(client, range(2 * workers))
        begun = time.perf_counter()
        _paint(client, range(JOBS))
        return time.perf_counter() - begun


def _separate(cores: list[int]) -> float:
    """Returns the seconds until all jobs have ended on servers with a core each, after a first job on each."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess("--device", "cpu", "--threads", "1")) for _ in cores]
        clients = [stack.enter_context(gramophone.Client(server.address)) for server in servers]
        for server, client, core in zip(servers, clients, cores, strict=True):
            _paint(client, range(1))
            _pin(server.process.pid, core)
        shares = [range(number, JOBS, len(cores)) for number in range(len(cores))]
        begun = time.perf_counter()
        with ThreadPoolExecutor(len(cores)) as pool:
            list(pool.map(_paint, clients, shares))
        return time.perf_counter() - begun


def _pin(pid: int, core: int) -> None:
    """Lets all threads of a process and its children run on one core."""
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        for thread in each.threads():
            os.sched_setaffinity(thread.id, {core})


def _paint(client: gramophone.Client, seeds: range) -> None:
    style = picture(SIZE)
    for job in [client.style(style, size=SIZE, iterations=ITERATIONS, seed=seed) for seed in seeds]:
        job.result()
