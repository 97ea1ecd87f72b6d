"""A job's states, progress, result and history of events."""

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Literal

from .options import ImageFormat

FailureCode = Literal[
    "INTERNAL", "UNAVAILABLE", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "DATA_LOSS"
]

INLINE_BYTES = 3 << 20
"""Maximum number of bytes of a picture file in an event: keeps messages below gRPC's default limit of 4 MiB."""


class State(Enum):
    """State of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether no other state can follow."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class EncodedPicture:
    """A picture file, its format, and its size in pixels."""

    data: bytes
    format: ImageFormat
    width: int
    height: int

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, 64 hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    def hashed(self) -> "EncodedPicture":
        """Computes the SHA-256 and returns the picture. Pickling keeps the hash, so that no event loop computes it."""
        assert self.sha256
        return self


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss, its value before weighting, and its weight; `region` is the index of a masked style."""

    kind: Literal["style", "content", "total_variation"]
    layer: str
    loss: float
    weight: float
    region: int | None = None
    style_loss: str = ""


@dataclass(frozen=True)
class Progress:
    """Progress of a running job; times in seconds."""

    iteration: int
    iterations: int
    loss: float
    terms: tuple[LossTerm, ...]
    iterations_per_second: float
    elapsed: float
    remaining: float
    preview: EncodedPicture | None = None


@dataclass(frozen=True)
class Result:
    """Result of a job; times in seconds. The scheduler fills in `queued`."""

    image: EncodedPicture
    loss: float
    terms: tuple[LossTerm, ...]
    iterations: int
    model: str
    recipe_json: str
    prepare: float
    optimize: float
    queued: float = 0.0


@dataclass(frozen=True)
class Failure:
    """Why a job failed: the name of a gRPC status code, and a sentence for users."""

    code: FailureCode
    message: str


@dataclass(frozen=True)
class Event:
    """An entry of a job's history; `sequence` counts from 1, `time` is in seconds since the Unix epoch."""

    sequence: int
    time: float
    state: State
    detail: Progress | Result | Failure | None = None
