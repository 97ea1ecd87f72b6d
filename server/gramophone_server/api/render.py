"""Converts jobs, events, estimates and models to messages of the contract."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from gramophone.v1 import job_pb2 as pb
from gramophone.v1 import model_service_pb2, options_pb2, style_transfer_service_pb2

from ..messages.estimate import Estimate
from ..messages.events import INLINE_BYTES, EncodedPicture, Event, Failure, LossTerm, Progress, Result
from ..messages.spec import JobSpec
from ..models.manifest import Manifest
from ..rpc.errors import shortened
from ..storage.job import Job

# Maximum bytes of a failed job's message.
_MAX_ERROR = 10_000


def render_event(job: Job, event: Event) -> pb.JobEvent:
    """Returns the message of a job's event."""
    message = pb.JobEvent(
        job_id=job.id,
        sequence=event.sequence,
        time=_timestamp(event.time),
        state=pb.JobState.Value(f"JOB_STATE_{event.state.name}"),
    )
    match event.detail:
        case Progress():
            message.progress.CopyFrom(_progress(event.detail))
        case Result():
            message.result.CopyFrom(_result(event.detail))
        case Failure():
            message.error.CopyFrom(_error(event.detail))
    return message


def render_job(job: Job, *, with_result: bool) -> pb.Job:
    """Returns the message of a job in its current state.

    Args:
        with_result: whether to include the result, if there is one.
    """
    message = pb.Job(
        id=job.id,
        kind=pb.JobKind.Value(f"JOB_KIND_{job.spec.kind.upper()}"),
        state=pb.JobState.Value(f"JOB_STATE_{job.state.name}"),
        model=job.spec.model,
        create_time=_timestamp(job.create_time),
        owner=job.owner,
        priority=job.priority,
        attempts=job.attempts,
        sequence=job.sequence,
    )
    if job.start_time is not None:
        message.start_time.CopyFrom(_timestamp(job.start_time))
    if job.end_time is not None:
        message.end_time.CopyFrom(_timestamp(job.end_time))
    if job.progress is not None:
        message.progress.CopyFrom(_progress(job.progress))
        message.progress.ClearField("preview")
    match job.outcome:
        case Result() as result if with_result:
            message.result.CopyFrom(_result(result))
        case Failure() as failure:
            message.error.CopyFrom(_error(failure))
    return message


def render_estimate(spec: JobSpec, estimate: Estimate) -> style_transfer_service_pb2.EstimateJobResponse:
    """Returns the response with a job's estimated memory and time."""
    mode = "COMPUTE_MODE_TILED" if estimate.tile else "COMPUTE_MODE_WHOLE"
    return style_transfer_service_pb2.EstimateJobResponse(
        width=spec.width,
        height=spec.height,
        mode=style_transfer_service_pb2.ComputeMode.Value(mode),
        tile_size=estimate.tile or 0,
        peak_memory_bytes=estimate.peak,
        available_memory_bytes=estimate.available,
        fits=estimate.fits,
        flops=estimate.flops,
        duration=_duration(estimate.seconds),
        iteration=_duration(estimate.seconds_per_iteration),
        device=estimate.device,
    )


def render_model(manifest: Manifest, *, is_default: bool) -> model_service_pb2.Model:
    """Returns the message of a model."""
    layers = [
        model_service_pb2.LayerInfo(
            name=layer.name, channels=layer.channels, stride=layer.stride, min_side=layer.min_side
        )
        for layer in manifest.layers
    ]
    return model_service_pb2.Model(
        name=manifest.name,
        layers=layers,
        description=manifest.description,
        source=manifest.source,
        license=manifest.license,
        sha256=manifest.sha256,
        is_default=is_default,
        style_layers=manifest.style_layers,
        content_layers=manifest.content_layers,
    )


def _progress(progress: Progress) -> pb.Progress:
    return pb.Progress(
        iteration=progress.iteration,
        iterations=progress.iterations,
        loss=progress.loss,
        layer_losses=_losses(progress.terms),
        iterations_per_second=progress.iterations_per_second,
        elapsed=_duration(progress.elapsed),
        remaining=_duration(progress.remaining),
        preview=render_image(progress.preview) if progress.preview else None,
    )


def _result(result: Result) -> pb.JobResult:
    return pb.JobResult(
        image=render_image(result.image),
        loss=result.loss,
        layer_losses=_losses(result.terms),
        iterations=result.iterations,
        model=result.model,
        recipe_json=result.recipe_json,
        timings=pb.Timings(
            queued=_duration(result.queued), prepare=_duration(result.prepare), optimize=_duration(result.optimize)
        ),
    )


def _error(failure: Failure) -> pb.JobError:
    return pb.JobError(code=code_pb2.Code.Value(failure.code), message=shortened(failure.message, _MAX_ERROR))


def _losses(terms: tuple[LossTerm, ...]) -> list[pb.LayerLoss]:
    return [
        pb.LayerLoss(
            kind=pb.LossKind.Value(f"LOSS_KIND_{term.kind.upper()}"),
            layer=term.layer,
            loss=term.loss,
            weight=term.weight,
            region=term.region,
            style_loss=options_pb2.StyleLoss.Value(f"STYLE_LOSS_{(term.style_loss or 'unspecified').upper()}"),
        )
        for term in terms
    ]


def _style_loss(term: LossTerm) -> options_pb2.StyleLoss.ValueType:
    # Progress and results that an earlier version has stored do not name the loss.
    return options_pb2.StyleLoss.Value(f"STYLE_LOSS_{term.style_loss.upper() or 'UNSPECIFIED'}")


def render_image(picture: EncodedPicture) -> pb.EncodedImage:
    """Returns the message of a picture file, without its bytes if it has more than INLINE_BYTES."""
    image_format = options_pb2.ImageFormat.Value(f"IMAGE_FORMAT_{picture.format.upper()}")
    size = len(picture.data)
    return pb.EncodedImage(
        data=picture.data if size <= INLINE_BYTES else b"", format=image_format, width=picture.width,
        height=picture.height, size=size, sha256=picture.sha256,
    )  # fmt: skip


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp
