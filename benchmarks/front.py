"""The front process: seconds from its start until it serves, and its memory."""

import statistics
import time

import psutil

from tests.harness import ServerProcess, run, style_request

RUNS = 7


def measure() -> dict:
    """Measures the start time and the resident memory of the front process, with HTTP."""
    seconds, resident = [], []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        with ServerProcess("--http", "127.0.0.1:0") as server:
            seconds.append(time.perf_counter() - begun)
            resident.append(psutil.Process(server.process.pid).memory_info().rss / 2**20)
            if len(seconds) > RUNS:
                for seed in range(20):
                    run(server, style_request(seed=seed))
                after = psutil.Process(server.process.pid).memory_info().rss / 2**20
    rows = [
        # The first start is not counted, because it reads the files from disk.
        {
            "what": "process start to serving, median",
            "measured": f"{statistics.median(seconds[1:]):.2f} s",
            "bar": "< 1 s",
        },
        {"what": "process start to serving, slowest", "measured": f"{max(seconds[1:]):.2f} s", "bar": "< 1 s"},
        {"what": "resident memory, idle", "measured": f"{statistics.median(resident):.0f} MB", "bar": "< 120 MB"},
        {"what": "resident memory, after 20 jobs", "measured": f"{after:.0f} MB", "bar": "< 120 MB"},
    ]
    return {"title": "Front process", "how": f"{RUNS} starts of a server process with a warm disk cache.", "rows": rows}
