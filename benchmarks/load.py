"""The server under load: the speed of a job with a thousand watchers, and the time until a full queue refuses a job."""

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

from .time_slices import percent

ROUNDS, SECONDS = 12, 4.0
READING, NOT_READING, BOUND, OVER, AT_ONCE = 950, 50, 64, 500, 8


def measure() -> dict:
    """Measures the effect of the watchers, and the latency of refusals."""
    with ServerProcess("--log-level", "warning", "--max-queued", str(BOUND)) as server:
        ratios, growth, share = asyncio.run(watched(server))
    with ServerProcess("--log-level", "warning", "--max-queued", str(BOUND)) as server:
        running = events(server.style.ReconstructStyle(endless_request()))
        while not next(running).HasField("progress"):
            pass
        found = flood(server.address, BOUND + OVER, AT_ONCE)
    rows = [
        {
            "what": f"step rate with {READING + NOT_READING} watchers ({NOT_READING} do not read)",
            "measured": percent(ratios),
            "bar": "within 5 %",
        },
        {"what": "front's CPU time with watchers", "measured": f"{100 * share:.0f} % of a core", "bar": ""},
        {"what": "front's memory for the watchers", "measured": f"+{growth / 2**20:.0f} MiB", "bar": "< 100 MB"},
        {
            "what": f"latency of a refusal by a full queue, {OVER} jobs over the limit, 99th percentile",
            "measured": f"{1e3 * found.percentile(0.99):.0f} ms (median {1e3 * found.percentile(0.5):.0f})",
            "bar": "< 50 ms",
        },
        {"what": "jobs accepted, of the limit", "measured": f"{len(found.job_ids)} of {BOUND}", "bar": "exactly"},
    ]
    how = (
        f"A style job of 256x256 with default reports and previews; {ROUNDS} rounds of {SECONDS:g} s without and "
        f"{SECONDS:g} s with the watchers; median of the ratios. The watchers run on the same cores, at the lowest "
        f"priority. Refusals: {AT_ONCE} concurrent calls, measured by the client."
    )
    return {"title": "Load", "how": how, "rows": rows}


async def watched(server: ServerProcess) -> tuple[list[float], int, float]:
    """Runs a job with and without a crowd of watchers, in alternation.

    Returns:
        The ratio of the step rates with and without the crowd in each round; the bytes that the crowd adds to the
        front's memory; and the front's CPU time with the crowd, as a fraction of a core.
    """
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
    """Returns the CPU seconds that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def rate(server: ServerProcess, job_id: str) -> tuple[float, int]:
    """Returns the iterations per second over some seconds, and the sequence number of the latest event."""
    stream = server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
    seen: list[tuple[float, int]] = []
    begun = time.time()
    for response in stream:
        event, moment = response.event, response.event.time.ToMicroseconds() / 1e6
        if event.HasField("progress") and moment > begun:  # The stream starts with older events.
            seen.append((moment, event.progress.iteration))
            if moment - begun > SECONDS and len(seen) > 2:
                break
    stream.cancel()
    (first, begin), (last, end) = seen[0], seen[-1]
    return (end - begin) / (last - first), event.sequence


async def be_a_crowd(address: str, job_id: str, latest: str) -> None:
    """Watches a job with many streams until standard input closes; prints "there" when all streams are open."""
    crowd = Crowd(address, job_id, int(latest), reading=READING, not_reading=NOT_READING)
    await crowd.gather()
    print("there", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await crowd.leave()


if __name__ == "__main__":
    asyncio.run(be_a_crowd(*sys.argv[1:]))
