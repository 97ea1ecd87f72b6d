"""During a long mix of calls, the memory, file descriptors and threads of front and worker do not grow.

The test samples them four times a second and drops the first third as warm-up. The median of the last third may exceed
the median of the second third only by a bound. A leak grows in both; filling caches and allocators grow in the second
third only.
"""

import hashlib
import random
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass

import grpc
import psutil
import pytest

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.faults.checks import check_end, check_error, check_unharmed
from tests.harness import Calls, ServerProcess, events, options, png, run, style_request

CLIENTS = 4
SIZES = (32, 48, 64)
# Bounds of the growth. A worker's memory of 0.7 GB varies by some megabytes with each job.
BOUNDS = {
    "front": {"rss": 12 << 20, "fds": 4, "threads": 3},
    "worker": {"rss": 40 << 20, "fds": 2, "threads": 2},
}


@dataclass(frozen=True)
class Usage:
    """Resources of a process: resident bytes, file descriptors and threads."""

    rss: int
    fds: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Usage":
        with process.oneshot():
            return cls(process.memory_info().rss, process.num_fds(), process.num_threads())


class Client(threading.Thread):
    """Makes random calls one after the other until the time `until` of the monotonic clock."""

    def __init__(self, address: str, seed: int, until: float) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._calls = Calls(address)
        self._chance = random.Random(seed)
        self._until = until
        self.doing = ""
        self.done: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self._calls:
                while time.monotonic() < self._until:
                    what = self._chance.choice(
                        [self.paint, self.paint, self.cancel, self.disconnect, self.watch, self.upload, self.ask]
                    )
                    self.doing = what.__name__
                    what()
                    self.done[what.__name__] += 1
        except BaseException as error:
            self.error = error

    def paint(self) -> None:
        """Runs a job to its end, downloads the result, and deletes half of the jobs."""
        image = options_pb2.InputImage(data=png(seed=self._chance.randrange(20)))
        source = options_pb2.StyleSource(image=image)
        chosen = options(
            size=self._chance.choice(SIZES),
            iterations=self._chance.randint(1, 12),
            optimizer=self._chance.randint(0, 2),
            color=0,
        )
        kind = self._chance.randrange(3)
        if kind == 0:
            stream = self._calls.style.ReconstructStyle(pb.ReconstructStyleRequest(styles=[source], options=chosen))
        elif kind == 1:
            stream = self._calls.style.ReconstructContent(pb.ReconstructContentRequest(content=image, options=chosen))  # type: ignore[assignment]
        else:
            request = pb.TransferStyleRequest(content=image, styles=[source], options=chosen)
            stream = self._calls.style.TransferStyle(request)  # type: ignore[assignment]
        *_, last = events(stream)
        check_end(last)
        pieces = list(self._calls.jobs.DownloadResult(job_service_pb2.DownloadResultRequest(job_id=last.job_id)))
        assert hashlib.sha256(b"".join(piece.data for piece in pieces)).hexdigest() == pieces[0].sha256
        if self._chance.random() < 0.5:
            self._calls.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=last.job_id))

    def cancel(self) -> None:
        """Cancels a waiting or running job."""
        stream = events(self._calls.style.ReconstructStyle(style_request(iterations=100_000)))
        job_id = next(stream).job_id
        time.sleep(self._chance.random() / 5)
        self._calls.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        *_, last = stream
        assert last.state == job_pb2.JOB_STATE_CANCELLED

    def disconnect(self) -> None:
        """Closes the stream of a job, which that cancels, and the connection."""
        with Calls(self._address) as own:
            call = own.style.ReconstructStyle(style_request(iterations=100_000))
            next(call)
            time.sleep(self._chance.random() / 5)

    def watch(self) -> None:
        """Watches the two latest jobs from a random event on."""
        found = self._calls.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=10)).jobs
        for job in found[:2]:
            request = job_service_pb2.WatchJobRequest(job_id=job.id, after_sequence=self._chance.randint(0, 5))
            try:
                for _ in self._calls.jobs.WatchJob(request):
                    pass
            except grpc.RpcError as error:
                # Another client has deleted the job.
                check_error(error, request, {grpc.StatusCode.NOT_FOUND})

    def upload(self) -> None:
        """Uploads one of a few files."""
        data = png(200, 200, seed=self._chance.randrange(3))
        request = job_service_pb2.UploadImageRequest(sha256=hashlib.sha256(data).hexdigest(), data=data)
        self._calls.jobs.UploadImage(iter([request]))

    def ask(self) -> None:
        """Requests an estimate, features, and a job that does not exist."""
        self._calls.style.EstimateJob(pb.EstimateJobRequest(style=style_request()))
        image = options_pb2.InputImage(data=png(seed=self._chance.randrange(20)))
        list(self._calls.models.ExtractFeatures(model_service_pb2.ExtractFeaturesRequest(image=image)))
        missing = job_service_pb2.GetJobRequest(job_id="missing")
        with pytest.raises(grpc.RpcError) as caught:
            self._calls.jobs.GetJob(missing)
        check_error(caught.value, missing)


@pytest.mark.timeout(0)
@pytest.mark.slow
def test_resources_do_not_grow_during_a_mix_of_calls(long: bool, request: pytest.FixtureRequest) -> None:
    minutes = request.config.getoption("--soak") or (3.0 if long else 0.25)
    with ServerProcess("--max-queued", "16", "--log-level", "warning") as server:
        for size in SIZES:
            run(server, style_request(size=size))
        workers = server.workers()
        processes = [psutil.Process(server.process.pid), *workers]
        begun = time.monotonic()
        end = begun + 60 * minutes
        clients = [Client(server.address, seed, end) for seed in range(CLIENTS)]
        for client in clients:
            client.start()
        samples: list[list[Usage]] = []
        while any(client.is_alive() for client in clients):
            samples.append([Usage.of(process) for process in processes])
            time.sleep(0.25)
            if time.monotonic() > end + 120:
                calls = [client.doing for client in clients if client.is_alive()]
                jobs = server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs
                open_jobs = [job for job in jobs if job.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)]
                pytest.fail(f"{calls} do not end; jobs that have not ended: {open_jobs}")
        for client in clients:
            if client.error is not None:
                raise client.error
        done = sum((client.done for client in clients), Counter[str]())
        print(f"{minutes:g} min: {dict(done)}")
        assert all(done[what] for what in ("paint", "cancel", "disconnect", "watch", "upload", "ask"))
        for name, history in zip(("front", "worker"), zip(*samples, strict=True), strict=True):
            check_flat(name, list(history))
        check_unharmed(server, workers)


def check_flat(name: str, history: list[Usage]) -> None:
    """Checks that the median of the last third exceeds that of the second third by no more than BOUNDS."""
    third = len(history) // 3
    for what, bound in BOUNDS[name].items():
        before, after = (
            statistics.median(getattr(usage, what) for usage in history[begin : begin + third])
            for begin in (third, 2 * third)
        )
        print(f"{name}: {what} {before:,.0f} then {after:,.0f}")
        assert after - before <= bound, f"{what} of the {name} grew from {before:,.0f} to {after:,.0f}"
