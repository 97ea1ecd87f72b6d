"""Makes CUDA fail in each way, and tells what becomes of a job."""

import json
import logging

import torch

from gramophone_server.engine.device import Memory, release_free_memory
from gramophone_server.worker.failures import failure_of
from tests.cuda.scripts.jobs import DEVICE, prepared, spec, warmed
from tests.fake_cuda import fakecuda

logging.disable(logging.CRITICAL)
NO_MEMORY = ("out_of_memory", "launch_out_of_memory", "cublas_alloc", "cudnn_alloc", "cufft_alloc")
OTHERS = ("illegal_address", "launch_failure", "ecc", "no_kernel_image", "cublas_execution", "cudnn_execution")


def outcome(kind: str) -> dict[str, object]:
    """Returns the failure of a job in which CUDA fails, and whether a later job works."""
    with fakecuda.fail(kind):
        try:
            step = warmed(prepared(spec(optimizer="lbfgs")), 8)
            step()
            torch.cuda.synchronize()
            found = None
        except Exception as error:
            found = failure_of(error)
    return {"code": found.code if found else "", "message": found.message if found else ""}


def while_recording(kind: str) -> dict[str, object]:
    """Returns whether a job goes on, and records nothing, if CUDA fails once while an update is recorded."""
    job = prepared(spec(optimizer="lbfgs"), graphs=True)
    # The next update is recorded.
    step = warmed(job, 5)
    captured = job.synthesis._captured
    assert captured is not None and not captured.is_recorded
    with fakecuda.fail(kind, times=1):
        step()
        failed_once = not captured.is_recorded
    for _ in range(5):
        step()
    return {"failed": failed_once, "recorded": captured.is_recorded, "iteration": job.synthesis.frame().iteration}


results = {kind: outcome(kind) for kind in (*NO_MEMORY, *OTHERS)}
warmed(prepared(spec(512)), 2)
release_free_memory()
reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
recording = {kind: while_recording(kind) for kind in NO_MEMORY if kind != "cufft_alloc"}
print(
    json.dumps(
        {
            "failures": results,
            "recording": recording,
            "kept": reserved - allocated,
            "resident": Memory(DEVICE).resident() - reserved,
        }
    )
)
