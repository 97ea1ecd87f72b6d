"""What comes back from the service, as plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from .brief import Value, described
from .images import decode
from .saving import save
from .v1 import job_pb2, model_service_pb2, style_transfer_service_pb2

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, repr=False)
class LayerLoss(Value):
    """A term of a loss: "style", "content" or "total_variation" at a layer, before its weight, and the weight.

    `region` is the number of the style whose mask it belongs to; None for styles without one.
    """

    kind: str
    layer: str
    loss: float
    weight: float
    region: int | None = None


@dataclass(frozen=True, repr=False)
class Frame(Value):
    """How far a running job is.

    Attributes:
        iteration, iterations: updates done and asked for.
        loss: the total at the last gradient evaluation.
        layer_losses: its terms.
        iterations_per_second: recent speed.
        elapsed, remaining: seconds since it began to run, and until it ends as far as can be told.
        preview_bytes: the preview's file, empty if this frame has none.
        sequence: position in the job's history, from which `Client.job(id, after=sequence)` goes on; 0 in a JobInfo.
    """

    _shown = ("iteration", "iterations", "loss", "remaining", "preview_bytes")

    iteration: int
    iterations: int
    loss: float
    layer_losses: tuple[LayerLoss, ...]
    iterations_per_second: float
    elapsed: float
    remaining: float
    preview_bytes: bytes
    sequence: int = 0

    @cached_property
    def preview(self) -> Image.Image | None:
        """The preview as a PIL image, decoded when first asked for; None if this frame has none."""
        return decode(self.preview_bytes) if self.preview_bytes else None

    @classmethod
    def of(cls, message: job_pb2.Progress, sequence: int = 0) -> Frame:
        """The frame of a message that came with the event of that sequence."""
        return cls(
            message.iteration,
            message.iterations,
            message.loss,
            _losses(message.layer_losses),
            message.iterations_per_second,
            _seconds(message.elapsed),
            _seconds(message.remaining),
            message.preview.data,
            sequence,
        )


@dataclass(frozen=True, repr=False)
class Timings(Value):
    """Where a job's time went, in seconds: waiting, preparing (model and targets), optimizing."""

    queued: float
    prepare: float
    optimize: float


@dataclass(frozen=True, repr=False)
class Result(Value):
    """What a job made.

    Attributes:
        data: the picture's file, a PNG unless another was asked for, with its recipe in it.
        loss: of that very picture, in float32.
        layer_losses: its terms.
        iterations: updates made.
        model: the model that made it.
        recipe: everything needed to make the same bytes again.
        timings: where the time went.
    """

    data: bytes
    loss: float
    layer_losses: tuple[LayerLoss, ...]
    iterations: int
    model: str
    recipe: dict[str, Any]
    timings: Timings

    def _parts(self) -> Iterator[str]:
        if {"width", "height"} <= self.recipe.keys():
            yield f"{self.recipe['width']}x{self.recipe['height']}"
        for name in ("loss", "iterations", "model", "data"):
            yield f"{name}={described(getattr(self, name))}"

    @cached_property
    def image(self) -> Image.Image:
        """The picture as a PIL image, RGB, decoded when first asked for."""
        return decode(self.data)

    def save(self, path: str | os.PathLike[str], quality: int | None = None) -> None:
        """Writes the picture in the format that the suffix says, with its profile and its recipe; see `saving.save`.

        Args:
            quality: 1 to 100, of a .jpg, .avif or .webp. Default 95; a .webp is lossless.

        Raises:
            OSError: it cannot be written.
            ValueError: the suffix is of no format that can be written, or of one that has fewer bits than the result.
        """
        save(path, self.data, quality)

    @classmethod
    def of(cls, message: job_pb2.JobResult) -> Result:
        """The result of a message."""
        times = message.timings
        return cls(
            message.image.data,
            message.loss,
            _losses(message.layer_losses),
            message.iterations,
            message.model,
            json.loads(message.recipe_json),
            Timings(_seconds(times.queued), _seconds(times.prepare), _seconds(times.optimize)),
        )


@dataclass(frozen=True, repr=False)
class JobInfo(Value):
    """A job as it stands.

    Attributes:
        kind: "style", "content" or "transfer".
        state: "queued", "running", "succeeded", "failed" or "cancelled".
        frame: its latest progress, without a preview; None before the first.
        error: why it failed; None if it did not.
        owner: the client that submitted it; empty where the server does not tell its clients apart.
        priority: which of its owner's waiting jobs run first, -10 (last) to 10 (first).
        attempts: how often a worker has taken it up; more than 1 after a worker or the server was lost.
        sequence: of its latest event, from which `Client.job(id, after=sequence)` goes on.
    """

    id: str
    kind: str
    state: str
    model: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    frame: Frame | None
    error: str | None
    owner: str = ""
    priority: int = 0
    attempts: int = 0
    sequence: int = 0

    def _parts(self) -> Iterator[str]:
        for name in ("id", "kind", "state", "model"):
            yield f"{name}={described(getattr(self, name))}"
        if self.frame is not None:
            yield f"iteration={self.frame.iteration}/{self.frame.iterations}, loss={described(self.frame.loss)}"
        if self.error is not None:
            yield f"error={described(self.error)}"

    @classmethod
    def of(cls, message: job_pb2.Job) -> JobInfo:
        """The info of a message."""
        return cls(
            message.id,
            _name(job_pb2.JobKind.Name(message.kind), "JOB_KIND_"),
            state_name(message.state),
            message.model,
            _moment(message.create_time),
            _moment(message.start_time) if message.HasField("start_time") else None,
            _moment(message.end_time) if message.HasField("end_time") else None,
            Frame.of(message.progress) if message.HasField("progress") else None,
            message.error.message if message.HasField("error") else None,
            message.owner,
            message.priority,
            message.attempts,
            message.sequence,
        )


@dataclass(frozen=True, repr=False)
class Estimate(Value):
    """What a job would take.

    Attributes:
        width, height: of the canvas in pixels.
        tile_size: side of the tiles in which it would run; 0 for the whole canvas at once.
        peak_memory, available_memory: bytes that the worker would hold, and that it can have.
        fits: whether there is memory enough.
        flops: operations of the network's convolutions over the whole job.
        seconds, seconds_per_iteration: to the end of the job, and of one iteration at full size.
        device: what it would run on.
    """

    _shown = ("width", "height", "tile_size", "peak_memory", "available_memory", "fits", "seconds", "device")

    width: int
    height: int
    tile_size: int
    peak_memory: int
    available_memory: int
    fits: bool
    flops: float
    seconds: float
    seconds_per_iteration: float
    device: str

    @classmethod
    def of(cls, message: style_transfer_service_pb2.EstimateJobResponse) -> Estimate:
        """The estimate of a message."""
        return cls(
            message.width,
            message.height,
            message.tile_size,
            message.peak_memory_bytes,
            message.available_memory_bytes,
            message.fits,
            message.flops,
            _seconds(message.duration),
            _seconds(message.iteration),
            message.device,
        )


@dataclass(frozen=True, repr=False)
class ModelInfo(Value):
    """A model of the server: its name, its layers from shallow to deep, what it is and whose."""

    _shown = ("name", "is_default", "layers", "description")

    name: str
    layers: tuple[str, ...]
    description: str
    source: str
    license: str
    sha256: str
    is_default: bool

    @classmethod
    def of(cls, message: model_service_pb2.Model) -> ModelInfo:
        """The info of a message."""
        return cls(
            message.name,
            tuple(layer.name for layer in message.layers),
            message.description,
            message.source,
            message.license,
            message.sha256,
            message.is_default,
        )


def state_name(state: job_pb2.JobState.ValueType) -> str:
    """The state as JobInfo has it."""
    return _name(job_pb2.JobState.Name(state), "JOB_STATE_")


def _losses(messages: Any) -> tuple[LayerLoss, ...]:
    return tuple(
        LayerLoss(
            _name(job_pb2.LossKind.Name(m.kind), "LOSS_KIND_"),
            m.layer,
            m.loss,
            m.weight,
            m.region if m.HasField("region") else None,
        )
        for m in messages
    )


def _name(value: str, prefix: str) -> str:
    return value.removeprefix(prefix).lower()


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
