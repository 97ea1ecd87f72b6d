"""Converts exceptions to failures of jobs, with a message for the user."""

import logging

import torch

from ..messages.estimate import Estimate
from ..messages.events import Failure
from ..models.model import ModelError
from ..models.store import UnknownModelError

log = logging.getLogger(__name__)

# Parts of out-of-memory messages: of torch's CPU allocator, ONNX Runtime, CUDA, cuBLAS, cuDNN and cuFFT.
_NO_MEMORY = (
    "can't allocate memory",
    "bad_alloc",
    "Failed to allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUFFT_ALLOC_FAILED",
)
# The complete messages of oneDNN if it cannot allocate memory. Its messages for other errors are longer.
_ONEDNN = (
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory object",
)


class DivergedError(Exception):
    """No iterate has had a finite loss."""

    def __init__(self, iteration: int, precision: str) -> None:
        remedy = "lower options.learning_rate"
        if precision == "bfloat16":
            remedy += ", or set options.precision to PRECISION_FLOAT32"
        super().__init__(f"The loss was not finite in any of the first {iteration} iterations; {remedy}.")


class LargerThanDeviceError(Exception):
    """The job needs more memory than is available."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(estimate.refusal)


def failure_of(error: Exception) -> Failure:
    """Returns the failure with which a job ends if it raises `error`."""
    message = str(error)
    if isinstance(error, DivergedError):
        return Failure("OUT_OF_RANGE", message)
    if isinstance(error, LargerThanDeviceError):
        return Failure("FAILED_PRECONDITION", message)
    if isinstance(error, ModelError | UnknownModelError):
        log.error("a model cannot be used: %s", message)
        return Failure("FAILED_PRECONDITION", message if message.endswith(".") else f"T{message[1:]}.")
    if is_out_of_memory(error):
        return Failure(
            "RESOURCE_EXHAUSTED", "The job ran out of memory; make options.size smaller or use fewer layers."
        )
    log.exception("a job failed")
    return Failure("INTERNAL", f"{type(error).__name__}: {message}")


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error says that there is not enough memory, of the host or of a GPU."""
    message = str(error)
    listed = message in _ONEDNN or any(sign in message for sign in _NO_MEMORY)
    return listed or isinstance(error, torch.OutOfMemoryError | MemoryError)
