"""Gramophone: neural style as a service.

    with gramophone.Client("localhost:50051") as client:
        job = client.transfer("harbour.jpg", "starry.jpg", size=512, iterations=300, seed=0)
        for frame in job:
            print(frame.iteration, frame.loss)
        job.result().save("out.png")

`gramophone.aio.Client` is the same with `await`.
"""

from typing import TYPE_CHECKING

from ._sync.client import Client
from ._sync.job import Job
from .batches import Outcome
from .embedded import EmbeddedServer
from .errors import (
    DeadlineError,
    FieldViolation,
    GramophoneError,
    InvalidRequestError,
    JobCancelledError,
    JobFailedError,
    NotFoundError,
    OverloadedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)
from .options import Options
from .requests import Style
from .saving import read_recipe
from .uploads import Uploaded
from .values import Estimate, Frame, JobInfo, LayerLoss, ModelInfo, Result, Timings

if TYPE_CHECKING:
    from . import aio

__all__ = [
    "Client",
    "DeadlineError",
    "EmbeddedServer",
    "Estimate",
    "FieldViolation",
    "Frame",
    "GramophoneError",
    "InvalidRequestError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobInfo",
    "LayerLoss",
    "ModelInfo",
    "NotFoundError",
    "Options",
    "Outcome",
    "OverloadedError",
    "Result",
    "ServerError",
    "Style",
    "Timings",
    "UnauthenticatedError",
    "UnavailableError",
    "Uploaded",
    "aio",
    "read_recipe",
]


def __getattr__(name: str) -> object:
    """Imports `gramophone.aio` at its first use: programs with the synchronous client do not need it."""
    if name == "aio":
        from importlib import import_module

        return import_module(".aio", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
