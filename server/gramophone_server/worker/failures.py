"""What went wrong, in a sentence for a person."""

import logging

import torch

from ..messages.estimate import Estimate
from ..messages.events import Failure
from ..models.model import ModelError
from ..models.store import UnknownModelError

log = logging.getLogger(__name__)

# In what torch's allocator for the CPU raises, a plain RuntimeError, and ONNX Runtime, an error of its own.
_NO_MEMORY = ("can't allocate memory", "bad_alloc")
# All that oneDNN says when it gets none for its code or to work in. Of what it cannot do it says more than that.
_ONEDNN = (
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory object",
)


class DivergedError(Exception):
    """The loss is no longer a finite number."""

    def __init__(self, iteration: int, precision: str) -> None:
        remedy = "lower options.learning_rate"
        if precision == "bfloat16":
            remedy += ", or set options.precision to PRECISION_FLOAT32"
        super().__init__(f"The loss has not been a finite number once by iteration {iteration}; {remedy}.")


class LargerThanDeviceError(Exception):
    """The job needs more memory than there is."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(estimate.refusal)


def failure_of(error: Exception) -> Failure:
    """The failure that a job ends with when it raises `error`."""
    message = str(error)
    if isinstance(error, DivergedError):
        return Failure("OUT_OF_RANGE", message)
    if isinstance(error, LargerThanDeviceError):
        return Failure("FAILED_PRECONDITION", message)
    if isinstance(error, ModelError | UnknownModelError):
        log.error("a model cannot be used: %s", message)
        return Failure("FAILED_PRECONDITION", message if message.endswith(".") else f"T{message[1:]}.")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _tells_of_no_memory(message):
        return Failure(
            "RESOURCE_EXHAUSTED", "The job ran out of memory; make options.size smaller or use fewer layers."
        )
    log.exception("a job failed")
    return Failure("INTERNAL", f"{type(error).__name__}: {message}")


def _tells_of_no_memory(message: str) -> bool:
    return message in _ONEDNN or any(sign in message for sign in _NO_MEMORY)
