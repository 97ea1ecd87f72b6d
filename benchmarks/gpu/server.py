"""Runs jobs through a server whose worker has the GPU."""

import os
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec

from gramophone.v1 import job_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb

from .inputs import device
from .report import Report

_NEEDED = ("sqlalchemy", "cattrs", "grpc_health", "grpc_reflection", "png")
_SIDE = 512


def check(report: Report) -> None:
    """Runs a job, its estimate, a job whose worker is killed, and a large job."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        report.note("the server was not tried", missing=missing)
        return
    from tests.harness import ServerProcess

    with ServerProcess("--device", str(device()), "--checkpoint-every", "0.2") as server:
        run = _runner(server)
        cold, cold_seconds = run(_request())
        warm, warm_seconds = run(_request(seed=1))
        for event, what in ((cold, "the first job"), (warm, "a later job")):
            report.check(event.state == job_pb2.JOB_STATE_SUCCEEDED, f"{what} on the GPU", error=event.error.message)
        estimate = server.style.EstimateJob(pb.EstimateJobRequest(style=_request(seed=2)))
        took = warm.result.timings.optimize.ToTimedelta().total_seconds()
        report.note(
            "seconds", first=round(cold_seconds, 2), later=round(warm_seconds, 2), optimizing=took,
            estimated=estimate.duration.ToTimedelta().total_seconds(),
        )  # fmt: skip
        plain, _ = run(_request(iterations=400, report_every=5, seed=3))
        workers = [worker.pid for worker in server.workers()]
        killed, _ = run(_request(iterations=400, report_every=5, seed=3), lambda: _kill(workers))
        report.check(
            killed.state == job_pb2.JOB_STATE_SUCCEEDED and killed.result.image.data == plain.result.image.data,
            "a job whose worker is killed ends with the same bytes",
        )
        large, seconds = run(_request(size=2 * _SIDE, iterations=60))
        report.check(large.state == job_pb2.JOB_STATE_SUCCEEDED, "a job at 1024", seconds=round(seconds, 1))
        log = server.read_log()
        report.note("ONNX Runtime", on_the_cpu="extracts features on the CPU" in log)


def _request(**changes: object) -> pb.ReconstructStyleRequest:
    from tests.harness import options, png

    source = options_pb2.StyleSource(image=options_pb2.InputImage(data=png(_SIDE, _SIDE)))
    usual: dict[str, object] = {"size": _SIDE, "iterations": 300, "report_every": 10}
    return pb.ReconstructStyleRequest(styles=[source], options=options(**(usual | changes)))


def _runner(server: object) -> Callable[..., tuple[job_pb2.JobEvent, float]]:
    from tests.harness import events

    def run(
        request: pb.ReconstructStyleRequest, meanwhile: Callable[[], None] | None = None
    ) -> tuple[job_pb2.JobEvent, float]:
        begun, last = time.perf_counter(), job_pb2.JobEvent()
        for event in events(server.style.ReconstructStyle(request)):  # type: ignore[attr-defined]
            last = event
            if meanwhile is not None and event.progress.iteration >= 100:
                meanwhile()
                meanwhile = None
        return last, time.perf_counter() - begun

    return run


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
