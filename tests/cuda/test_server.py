"""A server whose GPU fails: jobs go on in a new worker process."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramophone.v1 import job_pb2
from tests.harness import ServerProcess, events, style_request

pytestmark = pytest.mark.slow
HOOK = Path(__file__).parent / "hook"


@pytest.fixture
def failing(built, tmp_path, monkeypatch) -> Iterator[tuple[ServerProcess, Path]]:
    """A server on the fake device, and the file that makes CUDA fail in its worker."""
    file, library = tmp_path / "fail", Path(built["FAKECUDA_BUILD"])
    monkeypatch.setenv("PYTHONPATH", f"{HOOK}:{built['PYTHONPATH']}")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{library / 'lib'}:{built.get('LD_LIBRARY_PATH', '')}")
    monkeypatch.setenv("LD_PRELOAD", str(library / "libfakecuda.so"))
    monkeypatch.setenv("FAKECUDA_READS", "0")
    monkeypatch.setenv("FAKECUDA_FAIL", str(file))
    with ServerProcess("--device", "cuda:0", "--checkpoint-every", "0.2") as server:
        yield server, file


def run_until_failure(server: ServerProcess, file: Path, failure: str) -> job_pb2.JobEvent:
    """Runs a job in which CUDA fails after some checkpoints, and returns its last event."""
    request = style_request(size=64, iterations=1500, report_every=10)
    begun, last = 0.0, None
    for event in events(server.style.ReconstructStyle(request)):
        last = event
        if event.HasField("progress") and not begun:
            begun = time.monotonic()
        if begun and failure and time.monotonic() - begun > 0.5:
            file.write_text(failure)
            failure = ""
    assert last is not None
    assert not failure, f"the job ended before the failure: {last}"
    return last


def test_a_job_resumes_in_a_new_process_after_the_context_is_lost(failing):
    server, file = failing
    last = run_until_failure(server, file, "illegal_address 1")
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    log = server.read_log()
    assert "has lost its device" in log
    assert "resumes at iteration" in log


def test_a_job_that_ran_out_of_memory_is_run_again_with_less(failing):
    server, file = failing
    last = run_until_failure(server, file, "launch_out_of_memory 1")
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    assert "has lost its device" not in server.read_log()
