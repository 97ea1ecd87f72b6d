"""The rate of progress events when many clients watch one job."""

import threading
from collections import Counter

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from tests.harness import ServerProcess, events, style_request

WATCHERS = 6


def watched(server: ServerProcess, seconds: int) -> Counter[str]:
    """Watches one job with WATCHERS clients to its end; the job reports after each iteration, for `seconds`.

    Returns counts: "reports" received by all watchers together, the final states seen, and "made", the job's
    iterations.
    """
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


def test_many_watchers_share_the_report_rate_and_see_the_end_at_once():
    # With 7 streams and 0.01 reports a second, each watcher waits 700 seconds between two reports.
    with ServerProcess("--max-reports", "0.01") as server:
        seen = watched(server, 3)
    assert seen["JOB_STATE_SUCCEEDED"] == WATCHERS
    assert seen["made"] > 10
    # Each watcher gets the reports made before it connected, and one more.
    assert WATCHERS <= seen["reports"] < WATCHERS * seen["made"] / 2


def test_watchers_within_the_report_rate_get_all_reports(server):
    seen = watched(server, 2)
    assert seen["JOB_STATE_SUCCEEDED"] == WATCHERS
    assert seen["reports"] > 10 * WATCHERS
