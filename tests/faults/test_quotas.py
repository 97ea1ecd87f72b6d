"""One client cannot have another client's files removed, fill the queue, or occupy all workers."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.job_service_pb2_grpc import JobServiceStub
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from gramophone_server.security.tokens import add_token
from tests.harness import ServerProcess, events, options, png, style_request, wait_until

from .checks import detail_of
from .recovery import ONE_THREAD

State = job_pb2.JobState
Code = grpc.StatusCode


class Client:
    """A client's calls, made with its token."""

    def __init__(self, server: ServerProcess, token: str | None) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._style = StyleTransferServiceStub(server.channel)
        self._jobs = JobServiceStub(server.channel)

    def submit(self, request: pb.ReconstructStyleRequest) -> str:
        """Submits a job that continues without its stream, and returns its id."""
        request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
        stream = self._style.ReconstructStyle(request, metadata=self._metadata)
        first = next(events(stream))
        stream.cancel()
        return first.job_id

    def paint(self, request: pb.ReconstructStyleRequest) -> job_pb2.JobEvent:
        return list(events(self._style.ReconstructStyle(request, metadata=self._metadata)))[-1]

    def upload(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        pieces = [job_service_pb2.UploadImageRequest(sha256=name), job_service_pb2.UploadImageRequest(data=data)]
        self._jobs.UploadImage(iter(pieces), metadata=self._metadata)
        return name

    def has(self, name: str) -> bool:
        """Whether the server still has an upload; the question counts as a use of it."""
        source = options_pb2.StyleSource(image=options_pb2.InputImage(sha256=name))
        request = pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=[source], options=options()))
        call = self._style.EstimateJob.future(request, metadata=self._metadata)
        code = call.code()
        assert code in (Code.OK, Code.INVALID_ARGUMENT)
        return bool(code == Code.OK)

    def get(self, job_id: str) -> job_pb2.Job:
        return self._jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id), metadata=self._metadata).job

    def states(self) -> dict[str, int]:
        listed = self._jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=self._metadata).jobs
        return {job.id: job.state for job in listed}

    def cancel(self, job_id: str) -> None:
        self._jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id), metadata=self._metadata)


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Tokens by client name; the file is tokens.json in `tmp_path`."""
    return {name: add_token(tmp_path / "tokens.json", name, admin=False) for name in ("alice", "bob")}


def serving(tmp_path: Path, *args: str) -> ServerProcess:
    return ServerProcess(
        "--tokens", str(tmp_path / "tokens.json"), "--data", str(tmp_path / "data"), *ONE_THREAD, *args
    )


def pictures(side: int = 128) -> Iterator[bytes]:
    """Yields picture files that are all different."""
    return (png(side, side, seed=seed) for seed in itertools.count(1000))


def refusal(error: grpc.RpcError) -> str:
    assert error.code() == Code.RESOURCE_EXHAUSTED
    assert detail_of(error, error_details_pb2.RetryInfo()).retry_delay.seconds >= 1
    return str(error.details())


def endless(seed: int = 0) -> pb.ReconstructStyleRequest:
    return style_request(seed, iterations=1_000_000, report_every=2)


@pytest.mark.slow
def test_many_uploads_of_one_client_remove_no_files_of_another(tmp_path, tokens):
    with serving(tmp_path, "--keep", "1MB") as server:
        alice, bob = Client(server, tokens["alice"]), Client(server, tokens["bob"])
        bobs = bob.upload(png(seed=1))
        done = [bob.paint(style_request(seed)).job_id for seed in range(3)]
        flood, first = pictures(), next(pictures())
        kept = alice.upload(first)
        sent = 0
        while sent < 3_000_000:
            data = next(flood)
            sent += len(data)
            latest = alice.upload(data)
            # The server evicts the least recently used upload first.
            assert alice.has(kept)
        assert alice.has(latest)
        assert all(bob.get(job_id).result.image.data for job_id in done)
        assert bob.has(bobs)
        assert stored(tmp_path) < 1_000_000
        # Bob's next jobs succeed too.
        for seed in range(5):
            assert bob.paint(style_request(seed)).state == State.JOB_STATE_SUCCEEDED


def stored(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "data" / "blobs").glob("*/*"))


def test_uploads_do_not_remove_results_without_authentication(tmp_path):
    with ServerProcess("--data", str(tmp_path / "data"), "--keep", "1MB", *ONE_THREAD) as server:
        client = Client(server, None)
        done = [client.paint(style_request(seed)).job_id for seed in range(3)]
        sent = 0
        for data in pictures():
            client.upload(data)
            sent += len(data)
            if sent > 2_000_000:
                break
        assert all(client.get(job_id).result.image.data for job_id in done)
        assert stored(tmp_path) < 1_000_000


def test_the_storage_of_one_client_is_bounded(tmp_path, tokens):
    args = ("--keep", "10MB", "--keep-per-client", "100kB", "--max-uploads-per-client", "3")
    with serving(tmp_path, *args) as server:
        alice, bob = Client(server, tokens["alice"]), Client(server, tokens["bob"])
        names = [alice.upload(png(seed=seed)) for seed in range(5)]
        assert [alice.has(name) for name in names] == [False, False, True, True, True]
        with pytest.raises(grpc.RpcError) as caught:
            alice.upload(next(pictures(512)))
        assert "one client may use 0.1 MB" in refusal(caught.value)
        assert [alice.has(name) for name in names] == [False, False, True, True, True]
        # Unfinished jobs count with 3 KB of pixels each, and are accepted until the room is used up.
        blocked: list[str] = []
        with pytest.raises(grpc.RpcError) as caught:
            blocked.extend(alice.submit(endless(seed)) for seed in range(60))
        assert "one client" in refusal(caught.value)
        assert 25 < len(blocked) < 40
        with pytest.raises(grpc.RpcError) as caught:
            alice.upload(png(seed=77))
        refusal(caught.value)
        assert bob.has(bob.upload(png(seed=77)))
        for job_id in blocked:
            alice.cancel(job_id)
        assert alice.has(alice.upload(png(seed=77)))


def test_one_client_cannot_fill_the_queue(tmp_path, tokens):
    with serving(tmp_path, "--max-queued", "8") as server:
        alice, bob = Client(server, tokens["alice"]), Client(server, tokens["bob"])
        wait_until(lambda: "is ready on" in server.read_log(), "the worker")
        alice.submit(endless())
        wait_until(lambda: State.JOB_STATE_RUNNING in alice.states().values(), "the first to run")
        for seed in range(6):
            alice.submit(endless(seed))
        with pytest.raises(grpc.RpcError) as caught:
            alice.submit(endless())
        assert "6 of your jobs are waiting already" in refusal(caught.value)
        for seed in range(2):
            bob.submit(endless(seed))
        with pytest.raises(grpc.RpcError) as caught:
            bob.submit(endless())
        assert "8 jobs are waiting already" in refusal(caught.value)


@pytest.mark.parametrize(("args", "most"), [((), 4), (("--max-queued-per-client", "2"), 2)])
def test_clients_without_tokens_share_the_whole_queue(tmp_path, args, most):
    with ServerProcess("--max-queued", "4", "--data", str(tmp_path), *ONE_THREAD, *args) as server:
        client = Client(server, None)
        wait_until(lambda: "is ready on" in server.read_log(), "the worker")
        client.submit(endless())
        wait_until(lambda: State.JOB_STATE_RUNNING in client.states().values(), "the first to run")
        for seed in range(most):
            client.submit(endless(seed))
        with pytest.raises(grpc.RpcError) as caught:
            client.submit(endless())
        refusal(caught.value)


@pytest.mark.slow
def test_one_client_cannot_occupy_all_workers(tmp_path, tokens):
    args = ("--device", "cpu", "--device", "cpu", "--max-running-per-client", "1")
    with serving(tmp_path, *args) as server:
        alice, bob = Client(server, tokens["alice"]), Client(server, tokens["bob"])
        wait_until(lambda: server.read_log().count("is ready on") == 2, "the workers")
        first, *others = [alice.submit(endless(seed)) for seed in range(3)]
        wait_until(lambda: alice.states()[first] == State.JOB_STATE_RUNNING, "the first to run")
        # The other worker takes bob's job at once.
        assert bob.paint(style_request(1)).state == State.JOB_STATE_SUCCEEDED
        assert [alice.states()[job_id] for job_id in others] == [State.JOB_STATE_QUEUED] * 2
        alice.cancel(first)
        wait_until(lambda: State.JOB_STATE_RUNNING in (alice.states()[o] for o in others), "the next to run")
        assert sorted(alice.states()[job_id] for job_id in others) == [State.JOB_STATE_QUEUED, State.JOB_STATE_RUNNING]


def test_a_file_of_two_clients_counts_for_both(tmp_path, tokens):
    with serving(tmp_path, "--keep-per-client", "100kB") as server:
        alice, bob = Client(server, tokens["alice"]), Client(server, tokens["bob"])
        shared = next(pictures(128))
        for client in (alice, bob):
            name = client.upload(shared)
        for seed in range(2000, 2008):
            alice.upload(png(100, 100, seed=seed))
        assert not alice.has(name)
        assert bob.has(name)
