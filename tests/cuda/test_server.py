"""A server whose GPU fails: jobs go on in a new worker process, or in less memory."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramophone.v1 import job_pb2
from tests.cuda.servers import environment_of, make_cuda_fail, run_until_failure
from tests.harness import ServerProcess, events, style_request, wait_until

pytestmark = pytest.mark.slow

# Bytes of a GPU on which a job of 768x768 pixels fits as a whole, but into half of the memory only in tiles.
SMALL = 1320 << 20


@pytest.fixture
def failing(request, built, tmp_path, monkeypatch) -> Iterator[tuple[ServerProcess, Path]]:
    """A server on a small fake device, and the file that makes CUDA fail in its worker."""
    file = tmp_path / "fail"
    own = {"FAKECUDA_FAIL": str(file), "FAKECUDA_MEMORY": str(SMALL)}
    for name, value in (environment_of(built) | own).items():
        monkeypatch.setenv(name, value)
    with ServerProcess("--device", "cuda:0", "--checkpoint-every", "0.2", *getattr(request, "param", ())) as server:
        yield server, file


def test_a_job_resumes_in_a_new_process_after_the_context_is_lost(failing):
    server, file = failing
    # The job outlasts the test on any machine; its stream ends with the server.
    stream = server.style.ReconstructStyle(style_request(size=64, iterations=1_000_000, report_every=10))
    progress = (event.progress for event in events(stream) if event.HasField("progress"))
    next(progress)
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:
        before = next(progress).iteration
    make_cuda_fail(file, "illegal_address 1")
    wait_until(lambda: "resumes at iteration" in server.read_log(), "the next worker", 120)
    assert "a worker process has lost its device: cuda:0 cannot be used: CUDA error: an illegal" in server.read_log()
    assert next(frame for frame in progress if frame.iteration > before)
    stream.cancel()


# With graphs, the failure could hit the recording of one, after which the job goes on without it.
@pytest.mark.parametrize("failing", [["--no-cuda-graphs"]], indirect=True, ids=["without graphs"])
def test_a_job_that_ran_out_of_memory_is_run_again_in_tiles(failing):
    server, file = failing
    last = run_until_failure(server, file, "launch_out_of_memory 1", 0.0, size=768, iterations=1000)
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    assert json.loads(last.result.recipe_json)["tile_size"] > 0
    assert "has lost its device" not in server.read_log()


def test_auto_starts_a_worker_for_each_gpu(built, monkeypatch):
    for name, value in environment_of(built).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FAKECUDA_DEVICES", "3")
    with ServerProcess("--device", "auto") as server:
        ready = [f"is ready on cuda:{number}" for number in range(3)]
        wait_until(lambda: all(line in server.read_log() for line in ready), "the workers", 180)
        assert len(server.workers()) == 3
        streams = [server.style.ReconstructStyle(style_request(size=64, iterations=100, seed=n)) for n in range(3)]
        assert [list(events(stream))[-1].state for stream in streams] == [job_pb2.JOB_STATE_SUCCEEDED] * 3
