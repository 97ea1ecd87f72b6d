"""What the service answers, as values: frames, results, jobs and models."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from google.protobuf.timestamp_pb2 import Timestamp

from gramophone.v1 import job_pb2, model_service_pb2, options_pb2

from .images import decode_picture

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["style", "content", "transfer"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
LossKind = Literal["style", "content", "total_variation"]


@dataclass(frozen=True)
class LayerLoss:
    """One term of the loss.

    Attributes:
        kind: "style", "content" or "total_variation".
        layer: name of the layer; empty for total variation.
        loss: the term before its weight, in the units of the model's activations.
        weight: all weights of the term multiplied together; the total is the sum of loss * weight.
    """

    kind: LossKind
    layer: str
    loss: float
    weight: float


@dataclass(frozen=True)
class Encoded:
    """An encoded picture: the bytes of its file, "png", "jpeg" or "webp", width and height in pixels."""

    data: bytes = field(repr=False)
    format: str
    width: int
    height: int

    @cached_property
    def image(self) -> "Image.Image":
        """The picture, decoded on first use."""
        return decode_picture(self.data)


@dataclass(frozen=True)
class Frame:
    """How far a running job is.

    Attributes:
        iteration: updates of the canvas done so far.
        iterations: updates asked for.
        loss: the total loss at the last gradient evaluation, which is the canvas before update number `iteration`.
        layer_losses: the terms of `loss`.
        iterations_per_second: recent speed.
        elapsed: seconds since the job began to run.
        remaining: estimated seconds until it ends.
        preview_file: the canvas after update number `iteration` as a file; None where it was left out.
    """

    iteration: int
    iterations: int
    loss: float
    layer_losses: tuple[LayerLoss, ...]
    iterations_per_second: float
    elapsed: float
    remaining: float
    preview_file: Encoded | None = None

    @property
    def preview(self) -> "Image.Image | None":
        """The preview as an RGB image, decoded on first use; None where it was left out."""
        return self.preview_file.image if self.preview_file else None


@dataclass(frozen=True)
class Timings:
    """Where the time of a finished job went, in seconds.

    Attributes:
        queued: from submission until a worker took it.
        prepare: loading the model and extracting the targets.
        optimize: optimising.
    """

    queued: float
    prepare: float
    optimize: float


@dataclass(frozen=True)
class Result:
    """What a job made.

    Attributes:
        png: the picture as an 8-bit sRGB PNG file, whose text chunk "gramophone" holds the recipe.
        width, height: its size in pixels.
        loss: the total loss of that very picture.
        layer_losses: the terms of `loss`.
        iterations: updates of the canvas made; fewer than asked for if the time limit ended the job.
        model: name of the model that made it.
        recipe: everything needed to make the same bytes again.
        timings: where the time went.
    """

    png: bytes = field(repr=False)
    width: int
    height: int
    loss: float
    layer_losses: tuple[LayerLoss, ...]
    iterations: int
    model: str
    recipe: dict[str, Any] = field(repr=False)
    timings: Timings

    @cached_property
    def image(self) -> "Image.Image":
        """The picture as an RGB image, decoded on first use."""
        return decode_picture(self.png)


@dataclass(frozen=True)
class JobInfo:
    """A job as it stood when the service was asked.

    Attributes:
        id: its identifier.
        kind: what it makes.
        state: where it stands.
        model: name of the model it uses.
        create_time: when it was accepted, in UTC.
        start_time: when a worker took it; None before.
        end_time: when it ended; None before.
        progress: the latest frame, without its preview; None before the first.
        error: why it failed; None unless it did.
        result: what it made; None unless it succeeded, and always None in lists of jobs.
    """

    id: str
    kind: Kind
    state: State
    model: str
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    progress: Frame | None
    error: str | None
    result: Result | None


@dataclass(frozen=True)
class LayerInfo:
    """A layer of a model: its name, number of channels N_l, and pixels of the picture per position along each axis."""

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class ModelInfo:
    """A model that a server has.

    Attributes:
        name: what to call it in requests.
        layers: its layers, shallow to deep.
        description: one sentence on what it is.
        source: where its weights come from.
        licence: the licence of its weights.
        sha256: of its ONNX file.
        is_default: whether requests that name no model use it.
    """

    name: str
    layers: tuple[LayerInfo, ...]
    description: str
    source: str
    licence: str
    sha256: str
    is_default: bool


def read_kind(value: "job_pb2.JobKind") -> Kind:
    """The word for a JobKind."""
    return cast(Kind, job_pb2.JobKind.Name(value).removeprefix("JOB_KIND_").lower())


def read_state(value: "job_pb2.JobState") -> State:
    """The word for a JobState."""
    return cast(State, job_pb2.JobState.Name(value).removeprefix("JOB_STATE_").lower())


def read_frame(message: job_pb2.Progress) -> Frame:
    """The Frame of a Progress."""
    return Frame(
        iteration=message.iteration,
        iterations=message.iterations,
        loss=message.loss,
        layer_losses=_losses(message.layer_losses),
        iterations_per_second=message.iterations_per_second,
        elapsed=message.elapsed.ToTimedelta().total_seconds(),
        remaining=message.remaining.ToTimedelta().total_seconds(),
        preview_file=_encoded(message.preview) if message.HasField("preview") else None,
    )


def read_result(message: job_pb2.JobResult) -> Result:
    """The Result of a JobResult."""
    timings = message.timings
    return Result(
        png=message.image.data,
        width=message.image.width,
        height=message.image.height,
        loss=message.loss,
        layer_losses=_losses(message.layer_losses),
        iterations=message.iterations,
        model=message.model,
        recipe=json.loads(message.recipe_json or "{}"),
        timings=Timings(
            queued=timings.queued.ToTimedelta().total_seconds(),
            prepare=timings.prepare.ToTimedelta().total_seconds(),
            optimize=timings.optimize.ToTimedelta().total_seconds(),
        ),
    )


def read_job(message: job_pb2.Job) -> JobInfo:
    """The JobInfo of a Job."""
    return JobInfo(
        id=message.id,
        kind=read_kind(message.kind),
        state=read_state(message.state),
        model=message.model,
        create_time=_time(message.create_time),
        start_time=_time(message.start_time) if message.HasField("start_time") else None,
        end_time=_time(message.end_time) if message.HasField("end_time") else None,
        progress=read_frame(message.progress) if message.HasField("progress") else None,
        error=message.error.message if message.HasField("error") else None,
        result=read_result(message.result) if message.HasField("result") else None,
    )


def read_model(message: model_service_pb2.Model) -> ModelInfo:
    """The ModelInfo of a Model."""
    return ModelInfo(
        name=message.name,
        layers=tuple(LayerInfo(layer.name, layer.channels, layer.stride) for layer in message.layers),
        description=message.description,
        source=message.source,
        licence=message.licence,
        sha256=message.sha256,
        is_default=message.is_default,
    )


def _losses(messages: Any) -> tuple[LayerLoss, ...]:
    return tuple(
        LayerLoss(cast(LossKind, job_pb2.LossKind.Name(m.kind).removeprefix("LOSS_KIND_").lower()), m.layer, m.loss, m.weight)
        for m in messages
    )


def _encoded(message: job_pb2.EncodedImage) -> Encoded:
    name = options_pb2.ImageFormat.Name(message.format).removeprefix("IMAGE_FORMAT_").lower()
    return Encoded(message.data, name, message.width, message.height)


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
