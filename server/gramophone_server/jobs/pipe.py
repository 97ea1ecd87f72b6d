"""The messages between the front and a worker process. Both ends are ours, so they travel pickled."""

from dataclasses import dataclass
from pathlib import Path

from ..models.layers import PoolingName
from .events import Failure, Progress, Result
from .spec import JobSpec, Picture


@dataclass(frozen=True)
class Run:
    """Front to worker: run this job."""

    job_id: str
    spec: JobSpec


@dataclass(frozen=True)
class Cancel:
    """Front to worker: stop this job at its next report."""

    job_id: str


@dataclass(frozen=True)
class Extract:
    """Front to worker: features of a picture, beside whatever job is running."""

    request_id: int
    model: str
    picture: Picture
    layers: tuple[str, ...]
    gram: bool
    pooling: PoolingName


@dataclass(frozen=True)
class Ready:
    """Worker to front: the device is open."""

    device: str


@dataclass(frozen=True)
class Started:
    """Worker to front: the job is in hand."""

    job_id: str


@dataclass(frozen=True)
class Progressed:
    """Worker to front: the job is that far."""

    job_id: str
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """Worker to front: the job ended; None means that it was cancelled."""

    job_id: str
    outcome: Result | Failure | None


@dataclass(frozen=True)
class Extracted:
    """Worker to front: for each layer its shape and little-endian float32 values, or why there are none."""

    request_id: int
    features: tuple[tuple[str, tuple[int, ...], bytes], ...] | Failure


@dataclass(frozen=True)
class WorkerConfig:
    """How a worker is set up: its device ("auto", "cpu", "cuda:0"), CPU threads (0: as many as it may use), models."""

    device: str
    threads: int
    models: Path | None


ToWorker = Run | Cancel | Extract
FromWorker = Ready | Started | Progressed | Ended | Extracted
