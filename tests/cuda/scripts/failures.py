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


results = {kind: outcome(kind) for kind in (*NO_MEMORY, *OTHERS)}
warmed(prepared(spec(512)), 2)
release_free_memory()
reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
print(json.dumps({"failures": results, "kept": reserved - allocated, "resident": Memory(DEVICE).resident() - reserved}))
