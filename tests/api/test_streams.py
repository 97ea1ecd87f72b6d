"""How much watchers get when there are many of them."""

import threading
from collections import Counter

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import ServerProcess, events, style_request

WATCHERS = 6


def watched(server: ServerProcess, seconds: int) -> Counter[str]:
    """What so many watchers see of a job that reports as often as it can, to its end; and how many reports it made."""
    request = style_request(iterations=1_000_000, size=32, report_every=1)
    request.options.time_limit.seconds = seconds
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    stream = events(server.style.ReconstructStyle(request))
    job_id = next(stream).job_id
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def watch() -> None:
        last = None
        for response in server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)):
            last = response.event
            with lock:
                seen["reports"] += last.HasField("progress")
        assert last is not None
        with lock:
            seen[job_pb2.JobState.Name(last.state)] += 1
            seen["made"] = last.result.iterations

    threads = [threading.Thread(target=watch) for _ in range(WATCHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def test_a_crowd_shares_the_reports_and_all_see_the_end_at_once():
    # Each would wait for 700 seconds between two reports.
    with ServerProcess("--max-reports", "0.01") as server:
        seen = watched(server, 3)
    assert seen["JOB_STATE_SUCCEEDED"] == WATCHERS
    assert seen["made"] > 10
    # Each has all that there was when it came, and then one more.
    assert WATCHERS <= seen["reports"] < WATCHERS * seen["made"] / 2


def test_as_many_as_are_allowed_get_all(server):
    seen = watched(server, 2)
    assert seen["JOB_STATE_SUCCEEDED"] == WATCHERS
    assert seen["reports"] > 10 * WATCHERS
