"""What a crowd costs: the speed of a job while a thousand watch it, and how soon a full queue refuses."""

import asyncio
import statistics
import sys
import time
from pathlib import Path

import psutil

from gramophone.v1 import job_service_pb2, options_pb2
from tests.faults.crowd import Crowd
from tests.faults.flood import flood
from tests.harness import ServerProcess, endless_request, events, style_request

from .turns import percent

ROUNDS, SECONDS = 12, 4.0
READING, NOT_READING, BOUND, OVER, AT_ONCE = 950, 50, 64, 500, 8


def measure() -> dict:
    with ServerProcess("--log-level", "warning", "--max-queued", str(BOUND)) as server:
        ratios, growth, share = asyncio.run(watched(server))
    with ServerProcess("--log-level", "warning", "--max-queued", str(BOUND)) as server:
        running = events(server.style.ReconstructStyle(endless_request()))
        while not next(running).HasField("progress"):
            pass
        found = flood(server.address, BOUND + OVER, AT_ONCE)
    rows = [
        {
            "what": f"step rate while {READING + NOT_READING} watch, {NOT_READING} of them not reading",
            "measured": percent(ratios),
            "bar": "within 5 %",
        },
        {"what": "front's CPU meanwhile", "measured": f"{100 * share:.0f} % of a core", "bar": ""},
        {"what": "front's memory for them", "measured": f"+{growth / 2**20:.0f} MiB", "bar": "< 100 MB"},
        {
            "what": f"refusal by a full queue, {OVER} over the bound, 99 %",
            "measured": f"{1e3 * found.percentile(0.99):.0f} ms (median {1e3 * found.percentile(0.5):.0f})",
            "bar": "< 50 ms",
        },
        {"what": "accepted, of a bound", "measured": f"{len(found.job_ids)} of {BOUND}", "bar": "exactly"},
    ]
    how = (
        f"A style job of 256x256 that reports with previews as by default; {ROUNDS} times {SECONDS:g} s with "
        f"the watchers and {SECONDS:g} s without, in turn; the median of the ratios. The watchers are on the same "
        f"cores, at the lowest priority. Refusals: {AT_ONCE} calls at once, as the client sees them."
    )
    return {"title": "Load", "how": how, "rows": rows}


async def watched(server: ServerProcess) -> tuple[list[float], int, float]:
    """The step rate with a crowd over that without, of each round; what a crowd adds to the front's memory and CPU."""
    request = style_request(iterations=1_000_000, size=256)
    request.options.ClearField("report_every")
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    stream = events(server.style.ReconstructStyle(request))
    job_id = next(stream).job_id
    while not next(stream).HasField("progress"):
        pass
    front = psutil.Process(server.process.pid)
    before, peak = front.memory_info().rss, 0
    ratios, shares = [], []
    for _ in range(ROUNDS):
        quiet, latest = await asyncio.to_thread(rate, server, job_id)
        crowd = await asyncio.create_subprocess_exec(
            "nice", "-n", "19", sys.executable, "-m", "benchmarks.load", server.address, job_id, str(latest),
            cwd=Path(__file__).parents[1], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert crowd.stdin is not None and crowd.stdout is not None
        assert await crowd.stdout.readline() == b"there\n"
        used, begun = cpu(front), time.monotonic()
        ratios.append((await asyncio.to_thread(rate, server, job_id))[0] / quiet)
        shares.append((cpu(front) - used) / (time.monotonic() - begun))
        peak = max(peak, front.memory_info().rss)
        crowd.stdin.close()
        await crowd.wait()
    server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
    return ratios, peak - before, statistics.median(shares)


def cpu(process: psutil.Process) -> float:
    """Seconds of a core that a process has had."""
    times = process.cpu_times()
    return times.user + times.system


def rate(server: ServerProcess, job_id: str) -> tuple[float, int]:
    """Iterations a second over some seconds, from report to report; and the sequence of the latest."""
    stream = server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
    seen: list[tuple[float, int]] = []
    begun = time.time()
    for response in stream:
        event, moment = response.event, response.event.time.ToMicroseconds() / 1e6
        if event.HasField("progress") and moment > begun:  # The history comes first.
            seen.append((moment, event.progress.iteration))
            if moment - begun > SECONDS and len(seen) > 2:
                break
    stream.cancel()
    (first, begin), (last, end) = seen[0], seen[-1]
    return (end - begin) / (last - first), event.sequence


async def be_a_crowd(address: str, job_id: str, latest: str) -> None:
    """Watches until standard input closes."""
    crowd = Crowd(address, job_id, int(latest), reading=READING, not_reading=NOT_READING)
    await crowd.gather()
    print("there", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await crowd.leave()


if __name__ == "__main__":
    asyncio.run(be_a_crowd(*sys.argv[1:]))
