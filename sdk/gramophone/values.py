"""Responses of the service as plain values."""

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
from .v1 import job_pb2, model_service_pb2, options_pb2, style_transfer_service_pb2

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, repr=False)
class LayerLoss(Value):
    """A term of the loss.

    Attributes:
        kind: "style", "content" or "total_variation".
        layer: name of the layer; empty for a loss of the canvas itself.
        loss: value before it is weighted.
        weight: weight of the term in the total loss.
        region: for a style with a mask, the index of the style; with a map, the number of the region; else None.
        style_loss: for a style, the name of its loss, such as "gram"; else empty.
    """

    kind: str
    layer: str
    loss: float
    weight: float
    region: int | None = None
    style_loss: str = ""


@dataclass(frozen=True, repr=False)
class Frame(Value):
    """Progress of a running job.

    Attributes:
        iteration, iterations: number of updates done, and number of updates requested.
        loss: total loss at the last gradient evaluation.
        layer_losses: terms of the loss.
        iterations_per_second: recent speed.
        elapsed, remaining: seconds since the job started to run, and estimated seconds until it ends.
        preview_bytes: file of the preview; empty if this frame has none.
        sequence: position in the job's history; `Client.job(id, after=sequence)` continues after it. 0 in a JobInfo.
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
        """The preview as a PIL image, decoded at the first access; None if this frame has none."""
        return decode(self.preview_bytes) if self.preview_bytes else None

    @classmethod
    def of(cls, message: job_pb2.Progress, sequence: int = 0) -> Frame:
        """Creates a frame from a message; `sequence` is that of its event."""
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
    """Durations of a job's phases in seconds: in the queue, preparing (model and targets), optimizing."""

    queued: float
    prepare: float
    optimize: float


@dataclass(frozen=True, repr=False)
class Result(Value):
    """Result of a job.

    Attributes:
        data: file of the picture in the requested format, by default PNG; it contains the recipe.
        loss: total loss of the picture as it is in the file, after rounding; evaluated in float32.
        layer_losses: terms of the loss.
        iterations: number of updates done.
        model: name of the model.
        recipe: everything needed to reproduce the same bytes.
        timings: durations of the job's phases.
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

    def _repr_png_(self) -> bytes | None:
        """Returns the picture for notebooks, reduced to at most 1024 pixels on its longest side."""
        from .notebook.pictures import display_png

        return display_png(self.data, 1024)

    @cached_property
    def image(self) -> Image.Image:
        """The picture as a PIL image in RGB, or RGBA if the content has alpha, decoded at the first access."""
        return decode(self.data)

    def save(self, path: str | os.PathLike[str], quality: int | None = None) -> None:
        """Writes the picture in the format of the path's suffix, with its ICC profile and its recipe.

        Args:
            path: the file to write, atomically.
            quality: quality of a .jpg, .avif or .webp, 1 to 100. Default 95, for .webp lossless.

        Raises:
            OSError: the file cannot be written.
            ValueError: the suffix is not of a known format, or the format has fewer bits per channel than the result.
        """
        save(path, self.data, quality)

    @classmethod
    def of(cls, message: job_pb2.JobResult) -> Result:
        """Creates a result from a message."""
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
    """The current state of a job.

    Attributes:
        id: the job's id.
        kind: "style", "content" or "transfer".
        state: "queued", "running", "succeeded", "failed" or "cancelled".
        model: name of the model.
        created, started, ended: times at which the server accepted the job, a worker took it, and it ended; None if not
            yet.
        frame: latest progress, without a preview; None before the first progress.
        error: message of the error if the job failed; else None.
        owner: name of the client that submitted it; empty if the server does not distinguish clients.
        priority: priority among the owner's queued jobs, -10 (last) to 10 (first).
        attempts: number of times that a worker has started it; more than 1 after a worker or the server was lost.
        sequence: sequence of its latest event; `Client.job(id, after=sequence)` continues after it.
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
        """Creates an info from a message."""
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
    """Estimated memory and time of a job.

    Attributes:
        width, height: size of the canvas in pixels.
        tile_size: side in pixels of the tiles in which the gradient would be computed; 0 for the whole canvas at once.
        peak_memory, available_memory: predicted peak memory of the worker, and memory that it can use, in bytes.
        fits: whether the job fits into memory.
        flops: floating-point operations of the network's convolutions and of the style losses over the whole job.
        seconds, seconds_per_iteration: running time of the job, and of one iteration at full size.
        device: the device, such as "cpu" or "cuda:0".
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
        """Creates an estimate from a message."""
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
    """A model of the server.

    Attributes:
        name: name to use in requests.
        layers: names of its layers, shallow to deep.
        description: description in one sentence.
        source, license: origin and license of its weights.
        sha256: SHA-256 of the ONNX file.
        is_default: whether the server uses it for requests that name no model.
        style_layers, content_layers: the layers of jobs that name none.
    """

    _shown = ("name", "is_default", "layers", "description")

    name: str
    layers: tuple[str, ...]
    description: str
    source: str
    license: str
    sha256: str
    is_default: bool
    style_layers: tuple[str, ...] = ()
    content_layers: tuple[str, ...] = ()

    @classmethod
    def of(cls, message: model_service_pb2.Model) -> ModelInfo:
        """Creates an info from a message."""
        return cls(
            message.name,
            tuple(layer.name for layer in message.layers),
            message.description,
            message.source,
            message.license,
            message.sha256,
            message.is_default,
            tuple(message.style_layers),
            tuple(message.content_layers),
        )


def state_name(state: job_pb2.JobState.ValueType) -> str:
    """Returns the word of a state, as in JobInfo.state."""
    return _name(job_pb2.JobState.Name(state), "JOB_STATE_")


def _losses(messages: Any) -> tuple[LayerLoss, ...]:
    return tuple(
        LayerLoss(
            _name(job_pb2.LossKind.Name(m.kind), "LOSS_KIND_"),
            m.layer,
            m.loss,
            m.weight,
            m.region if m.HasField("region") else None,
            _name(options_pb2.StyleLoss.Name(m.style_loss), "STYLE_LOSS_") if m.style_loss else "",
        )
        for m in messages
    )


def _name(value: str, prefix: str) -> str:
    return value.removeprefix(prefix).lower()


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
