"""Servers on the fake CUDA device."""

import time
from pathlib import Path
from typing import Any

from gramophone.v1 import job_pb2
from tests.harness import ServerProcess, events, style_request

HOOK = Path(__file__).parent / "hook"


def environment_of(built: dict[str, str]) -> dict[str, str]:
    """Returns the environment of a server on the fake device, whose self-test compares no numbers."""
    library = Path(built["FAKECUDA_BUILD"])
    return {
        "PYTHONPATH": f"{HOOK}:{built['PYTHONPATH']}",
        "LD_LIBRARY_PATH": f"{library / 'lib'}:{built.get('LD_LIBRARY_PATH', '')}",
        "LD_PRELOAD": str(library / "libfakecuda.so"),
        "FAKECUDA_READS": "0",
        "FAKECUDA_FAIL": str(library / "fail"),
    }


def make_cuda_fail(file: Path, failure: str) -> None:
    """Makes CUDA fail in the worker, by a file that it watches; the file appears with all of its content."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(failure)
    unfinished.replace(file)


def run_until_failure(
    server: ServerProcess, file: Path, failure: str, after: float, **options: Any
) -> job_pb2.JobEvent:
    """Runs a job in which CUDA fails some seconds after its first report, and returns its last event."""
    request = style_request(report_every=10, **options)
    begun, last = 0.0, None
    for event in events(server.style.ReconstructStyle(request)):
        last = event
        if event.HasField("progress") and not begun:
            begun = time.monotonic()
        if begun and failure and time.monotonic() - begun >= after:
            make_cuda_fail(file, failure)
            failure = ""
    assert last is not None
    assert not failure, f"the job ended before the failure: {last}"
    return last
