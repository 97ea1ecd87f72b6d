"""The messages between the front and a worker process. Both ends are ours, so they travel pickled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..models.layers import PoolingName
from ..settings import ObservabilitySettings, WorkerSettings
from .estimate import Estimate
from .events import Failure, Progress, Result
from .spec import JobSpec, Picture


@dataclass(frozen=True)
class Run:
    """Front to worker: run this job.

    Attributes:
        spec: without its pixels, which the worker reads from their blobs.
        blobs: the folder of those.
        checkpoint: the file from which it goes on, if there is one, and in which its checkpoints are kept.
        resumes: whether there should be a checkpoint: a worker has had the job before.
        squeeze: how often it has run out of memory; the worker plans with half of what is there each time.
        marks: what lines of the log that are about it say.
    """

    job_id: str
    spec: JobSpec
    blobs: Path
    checkpoint: Path
    resumes: bool = False
    squeeze: int = 0
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cancel:
    """Front to worker: stop this job at its next report."""

    job_id: str


@dataclass(frozen=True)
class Pause:
    """Front to worker: save a checkpoint of this job at its next report and leave it there."""

    job_id: str


@dataclass(frozen=True)
class Extract:
    """Front to worker: features of a picture, beside whatever job is running.

    Attributes:
        pixels: folder that has the pixels, in a file of their blob's name.
    """

    request_id: int
    model: str
    picture: Picture
    pixels: Path
    layers: tuple[str, ...]
    gram: bool
    pooling: PoolingName


@dataclass(frozen=True)
class Ask:
    """Front to worker: what would this job (its pictures left out) take, and if `timed`, how long?"""

    request_id: int
    spec: JobSpec
    timed: bool


@dataclass(frozen=True)
class Ready:
    """Worker to front: the device is open."""

    device: str


@dataclass(frozen=True)
class Unopened:
    """Worker to front, its last message: the device cannot be opened, or not be used any more."""

    device: str
    reason: str


@dataclass(frozen=True)
class Alive:
    """Worker to front, every few seconds: it is there, its job has not moved for so many seconds, and it holds so many
    bytes on its device.
    """

    stuck: float
    resident: int = 0


@dataclass(frozen=True)
class Paused:
    """How a job ends that was left at a checkpoint."""


@dataclass(frozen=True)
class StorageAway:
    """How a job ends whose files cannot be read for now: it has not begun."""

    reason: str


@dataclass(frozen=True)
class Progressed:
    """Worker to front: the job is that far."""

    job_id: str
    progress: Progress


Outcome = Result | Failure | Paused | StorageAway | None
"""How a run ends; None means that it was cancelled."""


@dataclass(frozen=True)
class Ended:
    """Worker to front: the job ended; None means that it was cancelled."""

    job_id: str
    outcome: Outcome


@dataclass(frozen=True)
class Extracted:
    """Worker to front: for each layer its shape and little-endian float32 values, or why there are none."""

    request_id: int
    features: tuple[tuple[str, tuple[int, ...], bytes], ...] | Failure


@dataclass(frozen=True)
class Answered:
    """Worker to front: what was asked, or why it cannot be said."""

    request_id: int
    answer: Estimate | Failure


@dataclass(frozen=True)
class WorkerConfig:
    """Front to worker, its first message: how it is set up. It holds no settings that may be secret.

    Attributes:
        device: "auto", "cpu", "cuda:0".
        workers: what all workers have in common.
        models: folder of models; None means the user's.
        observability: what it logs, and where event files of jobs go.
    """

    device: str
    workers: WorkerSettings
    models: Path | None
    observability: ObservabilitySettings


ToWorker = WorkerConfig | Run | Cancel | Pause | Extract | Ask
FromWorker = Ready | Unopened | Alive | Progressed | Ended | Extracted | Answered
