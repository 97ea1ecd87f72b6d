"""From keyword options to requests: what the synchronous and the asynchronous client share.

An option that is not given is not set in the request: the defaults are the server's, and written down there alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from .images import encode
from .v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from .v1 import style_transfer_service_pb2 as pb

if TYPE_CHECKING:
    from .images import ImageLike

    Layers = int | str | Sequence[str] | Mapping[str, float]
    """1 to 5 for the first so many of the paper's style layers, a name, names, or names with their weights."""

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


class Options(TypedDict, total=False):
    """The options that all three kinds of job share; SynthesisOptions in the contract says what each means."""

    size: int
    fit: str
    iterations: int
    optimizer: str
    learning_rate: float
    init: str | ImageLike
    seed: int
    precision: str
    pooling: str
    tv_weight: float
    report_every: int
    preview_every: int
    preview_size: int
    preview_format: str
    time_limit: float
    model: str
    on_disconnect: str


@dataclass(frozen=True)
class Style:
    """A picture whose style is painted with: its share among several, and its size relative to the canvas."""

    image: ImageLike
    weight: float | None = None
    scale: float | None = None


def style_request(
    styles: ImageLike | Style | Sequence[ImageLike | Style], layers: Layers | None, options: Options
) -> pb.ReconstructStyleRequest:
    """The request for a style reconstruction."""
    return pb.ReconstructStyleRequest(
        styles=_styles(styles),
        style_layers=_layers(layers),
        options=_options(options),
        on_disconnect=_on_disconnect(options),
    )


def content_request(image: ImageLike, layers: Layers | None, options: Options) -> pb.ReconstructContentRequest:
    """The request for a content reconstruction."""
    if isinstance(layers, int):
        raise ValueError("layers must be names for a content reconstruction, such as 'conv4_2'; a number is for styles")
    return pb.ReconstructContentRequest(
        content=_image(image),
        content_layers=_layers(layers),
        options=_options(options),
        on_disconnect=_on_disconnect(options),
    )


def transfer_request(
    content: ImageLike,
    styles: ImageLike | Style | Sequence[ImageLike | Style],
    content_layers: Layers | None,
    style_layers: Layers | None,
    content_weight: float | None,
    style_weight: float | None,
    options: Options,
) -> pb.TransferStyleRequest:
    """The request for a style transfer."""
    return pb.TransferStyleRequest(
        content=_image(content),
        styles=_styles(styles),
        content_layers=_layers(content_layers),
        style_layers=_layers(style_layers),
        content_weight=content_weight,
        style_weight=style_weight,
        options=_options(options),
        on_disconnect=_on_disconnect(options),
    )


def features_request(
    image: ImageLike,
    layers: Sequence[str],
    kind: str | None,
    size: int | None,
    pooling: str | None,
    model: str | None,
) -> model_service_pb2.ExtractFeaturesRequest:
    """The request for features of a picture."""
    return model_service_pb2.ExtractFeaturesRequest(
        image=_image(image),
        layers=layers,
        kind=_choice(model_service_pb2.FeatureKind, "FEATURE_KIND_", "kind", kind),
        size=size,
        pooling=_choice(options_pb2.Pooling, "POOLING_", "pooling", pooling),
        model=model,
    )


def list_request(states: Iterable[str], page_size: int, token: str) -> job_service_pb2.ListJobsRequest:
    """The request for a page of jobs."""
    chosen = [_choice(job_pb2.JobState, "JOB_STATE_", "states", state) for state in states]
    return job_service_pb2.ListJobsRequest(page_size=page_size, page_token=token, states=chosen)


def _options(options: Options) -> options_pb2.SynthesisOptions:
    unknown = set(options) - Options.__annotations__.keys()
    if unknown:
        known = ", ".join(sorted(Options.__annotations__))
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}; the options are {known}")
    plain = ("size", "iterations", "learning_rate", "seed", "tv_weight", "report_every", "model")
    fields: dict[str, Any] = {name: options.get(name) for name in plain}
    for name, enum in (
        ("fit", options_pb2.Fit),
        ("optimizer", options_pb2.Optimizer),
        ("precision", options_pb2.Precision),
        ("pooling", options_pb2.Pooling),
    ):
        fields[name] = _choice(enum, f"{name.upper()}_", name, cast(str | None, options.get(name)))
    init = options.get("init")
    if init in ("noise", "content"):
        fields["init"] = _choice(options_pb2.Init, "INIT_", "init", cast(str, init))
    elif init is not None:
        fields["init_image"] = _image(init)
    if (limit := options.get("time_limit")) is not None:
        fields["time_limit"] = timedelta(seconds=limit)
    preview = {name: options.get(f"preview_{name}") for name in ("every", "size")}
    image_format = _choice(options_pb2.ImageFormat, "IMAGE_FORMAT_", "preview_format", options.get("preview_format"))
    fields["preview"] = options_pb2.PreviewOptions(format=image_format, **preview)  # type: ignore[arg-type]
    return options_pb2.SynthesisOptions(**fields)


def _on_disconnect(options: Options) -> Any:
    # The wire's default is to cancel, for clients that would not know how to come back; a Job does.
    return _choice(
        options_pb2.OnDisconnect, "ON_DISCONNECT_", "on_disconnect", options.get("on_disconnect", "continue")
    )


def _image(image: ImageLike) -> options_pb2.Image:
    return options_pb2.Image(data=encode(image))


def _styles(styles: ImageLike | Style | Sequence[ImageLike | Style]) -> list[options_pb2.StyleSource]:
    sources = []
    for style in styles if isinstance(styles, list | tuple) else [styles]:
        if not isinstance(style, Style):
            style = Style(cast("ImageLike", style))
        sources.append(options_pb2.StyleSource(image=_image(style.image), weight=style.weight, scale=style.scale))
    return sources


def _layers(layers: Layers | None) -> list[options_pb2.LayerWeight]:
    if layers is None:
        return []
    if isinstance(layers, int):
        if not 1 <= layers <= len(STYLE_LAYERS):
            raise ValueError(f"layers must be 1 to {len(STYLE_LAYERS)}, or names, not {layers}")
        layers = STYLE_LAYERS[:layers]
    if isinstance(layers, str):
        layers = [layers]
    if isinstance(layers, Mapping):
        return [options_pb2.LayerWeight(layer=name, weight=weight) for name, weight in layers.items()]
    return [options_pb2.LayerWeight(layer=name) for name in layers]


def _choice(enum: Any, prefix: str, name: str, value: str | None) -> Any:
    if value is None:
        return None
    choices = {key.removeprefix(prefix).lower(): number for key, number in enum.items() if number}
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return choices[value]
