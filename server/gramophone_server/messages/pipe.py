"""Messages between the front and a worker process. They are pickled: both ends are trusted and run the same code."""

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
    """Front to worker: run a job.

    Attributes:
        spec: the job's spec without pixels; the worker reads them from blobs.
        blobs: folder of the blobs.
        checkpoint: file of the job's checkpoint. The job resumes from it if it exists.
        resumes: whether a checkpoint is expected: another worker ran the job before.
        squeeze: how often the job ran out of memory; each time halves the memory that the worker plans with.
        marks: fields of the log lines about the job.
        shared: whether other jobs may run at the same time.
    """

    job_id: str
    spec: JobSpec
    blobs: Path
    checkpoint: Path
    resumes: bool = False
    squeeze: int = 0
    marks: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False


@dataclass(frozen=True)
class Cancel:
    """Front to worker: stop a job after its current iteration."""

    job_id: str


@dataclass(frozen=True)
class Pause:
    """Front to worker: save a checkpoint of a job after its current iteration, and stop the job."""

    job_id: str


@dataclass(frozen=True)
class Share:
    """Front to worker: the process's share of its device, from now on.

    Attributes:
        threads: CPU threads of its shared job; 0 for all.
        beside: ids of the other worker processes of the device.
    """

    threads: int = 0
    beside: tuple[int, ...] = ()


@dataclass(frozen=True)
class RoomGranted:
    """Front to worker: a job may use the memory that a RoomRequest named."""

    job_id: str


@dataclass(frozen=True)
class FeaturesRequest:
    """Front to worker: extract features of a picture; works while a job is running.

    Attributes:
        pixels: folder of the pixels; their file is named by their blob.
    """

    request_id: int
    model: str
    picture: Picture
    pixels: Path
    layers: tuple[str, ...]
    gram: bool
    pooling: PoolingName


@dataclass(frozen=True)
class EstimateRequest:
    """Front to worker: estimate a job's memory and, if `timed`, its duration; `spec` has no pixels."""

    request_id: int
    spec: JobSpec
    timed: bool


@dataclass(frozen=True)
class Ready:
    """Worker to front: the device is open.

    Attributes:
        others: GPUs beside this one that the worker's setting "auto" also means; each needs a worker of its own.
        threads: number of CPU threads of a job that runs alone.
        idle: bytes that the worker holds on its device without a job.
        available: bytes that it holds and can still allocate.
    """

    device: str
    others: tuple[str, ...] = ()
    threads: int = 1
    idle: int = 0
    available: int = 0


@dataclass(frozen=True)
class DeviceFailed:
    """Worker to front, its last message: the device cannot be opened, or can no longer be used."""

    device: str
    reason: str


@dataclass(frozen=True)
class Delayed:
    """Link to front: the worker has no place to run yet; a sentence without an end says why."""

    reason: str


@dataclass(frozen=True)
class Placed:
    """Link to front: the worker has a place on a node and starts; it may have been delayed."""

    node: str


@dataclass(frozen=True)
class Heartbeat:
    """Worker to front, every few seconds: the worker is alive.

    Attributes:
        stuck: seconds since the last progress of one of its jobs; the longest.
        resident: bytes that this process holds on its device.
        available: bytes that all processes of the device hold and can still allocate.
    """

    stuck: float
    resident: int = 0
    available: int = 0


@dataclass(frozen=True)
class RoomRequest:
    """Worker to front: may a job use memory beside the other jobs of the device? If there is no answer, ask again.

    Attributes:
        needed: bytes that the job needs.
        available: bytes that there are for all jobs of the device together.
    """

    job_id: str
    needed: int
    available: int


@dataclass(frozen=True)
class Paused:
    """Outcome of a job that was stopped with a checkpoint."""


@dataclass(frozen=True)
class StorageUnavailable:
    """Outcome of a job that did not start because its files cannot be read at the moment."""

    reason: str


@dataclass(frozen=True)
class Progressed:
    """Worker to front: progress of a job."""

    job_id: str
    progress: Progress


Outcome = Result | Failure | Paused | StorageUnavailable | None
"""Outcome of a run; None means canceled."""


@dataclass(frozen=True)
class Ended:
    """Worker to front: a job ended."""

    job_id: str
    outcome: Outcome


@dataclass(frozen=True)
class FeaturesResponse:
    """Worker to front: (layer, shape, little-endian float32 values) of each layer, or why extraction failed."""

    request_id: int
    features: tuple[tuple[str, tuple[int, ...], bytes], ...] | Failure


@dataclass(frozen=True)
class EstimateResponse:
    """Worker to front: the estimate, or why there is none."""

    request_id: int
    answer: Estimate | Failure


@dataclass(frozen=True)
class WorkerConfig:
    """Front to worker, the first message: the worker's configuration, without settings that may be secret.

    Attributes:
        device: "auto", "cpu", "cuda:0", and so on.
        workers: settings of all workers.
        models: folder of models; None for the user's default folder.
        observability: settings of logs and event files.
    """

    device: str
    workers: WorkerSettings
    models: Path | None
    observability: ObservabilitySettings


ToWorker = WorkerConfig | Run | Cancel | Pause | Share | RoomGranted | FeaturesRequest | EstimateRequest
FromWorker = Ready | DeviceFailed | Heartbeat | RoomRequest | Progressed | Ended | FeaturesResponse | EstimateResponse
FromLink = FromWorker | Delayed | Placed
"""What the front receives: messages of the worker, and of the link that starts it."""
