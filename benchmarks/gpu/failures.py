"""Checks what becomes of a full GPU and of a lost context."""

import logging
from collections.abc import Callable

import torch
from torch.nn import functional as F

from gramophone_server.engine.device import set_up_cuda
from gramophone_server.worker.device import device_failure
from gramophone_server.worker.failures import failure_of

from .inputs import device
from .report import Report


def check(report: Report) -> None:
    """Fills the GPU, then loses the context: the process cannot use the GPU afterward."""
    logging.disable(logging.CRITICAL)
    set_up_cuda(device())
    picture, kernel, matrices = (torch.zeros(*s, device=device()) for s in ((1, 8, 64, 64), (8, 8, 3, 3), (2, 8, 8)))
    free, _ = torch.cuda.mem_get_info(device())
    ballast = torch.empty(max(0, free - (3 << 20)), dtype=torch.uint8, device=device())
    works: dict[str, Callable[[], object]] = {
        "an allocation": lambda: torch.empty(1 << 30, dtype=torch.uint8, device=device()),
        "a convolution": lambda: F.conv2d(picture, kernel, padding=1),
        "a product": lambda: torch.bmm(matrices, matrices),
        "a Fourier transform": lambda: torch.fft.rfft2(picture),
    }
    for what, work in works.items():
        try:
            work()
            torch.cuda.synchronize()
            report.note(f"a full GPU had room for {what}")
        except Exception as error:
            code = failure_of(error).code
            report.check(code == "RESOURCE_EXHAUSTED", f"a full GPU: {what} fails for memory", error=str(error)[:120])
    del ballast
    torch.cuda.empty_cache()
    try:
        torch.zeros(4, device=device())[torch.tensor([10**6], device=device())]
        torch.cuda.synchronize()
        report.note("an index out of range did not fail")
    except Exception as error:
        report.check(
            failure_of(error).code == "INTERNAL", "a lost context is an internal error", error=str(error)[:120]
        )
        report.check(device_failure(device()) is not None, "a worker notices that its context is lost")
