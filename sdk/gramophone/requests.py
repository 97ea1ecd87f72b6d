"""From keyword options to requests: what the synchronous and the asynchronous client share.

An option that is not given is not set in the request: the defaults are the server's, and written down there alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from .brief import Value
from .images import encode
from .uploads import Uploaded
from .v1 import model_service_pb2, options_pb2
from .v1 import style_transfer_service_pb2 as pb

if TYPE_CHECKING:
    from .images import ImageLike

    Layers = int | str | Sequence[str] | Mapping[str, float]
    """1 to 5 for the first so many of the paper's style layers, a name, names, or names with their weights."""

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


class Options(TypedDict, total=False):
    """The options that all three kinds of job share; the contract says what each means, most in SynthesisOptions.

    A `request_id` is made for every submission; give one of your own, and submitting it again, even by another process,
    returns the same job.
    """

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
    scales: int
    padding: str
    init_noise: float
    averaging: float
    plateau: float
    color: str
    loss_scale: str
    lbfgs_history: int
    result_format: str
    bit_depth: int
    tile_size: int
    on_disconnect: str
    request_id: str
    priority: int


@dataclass(frozen=True, repr=False)
class Style(Value):
    """A picture whose style is painted with.

    Attributes:
        weight: its share among several.
        scale: its size relative to the canvas.
        mask: a picture, white where this style is painted on the canvas.
        source_mask: a picture, white where the style is taken from this one.
    """

    image: ImageLike
    weight: float | None = None
    scale: float | None = None
    mask: ImageLike | None = None
    source_mask: ImageLike | None = None


def style_request(
    styles: ImageLike | Style | Sequence[ImageLike | Style], layers: Layers | None, options: Options
) -> pb.ReconstructStyleRequest:
    """The request for a style reconstruction."""
    return pb.ReconstructStyleRequest(
        styles=_styles(styles),
        style_layers=_layers(layers),
        options=_options(options),
        **_submission(options),
    )


def content_request(image: ImageLike, layers: Layers | None, options: Options) -> pb.ReconstructContentRequest:
    """The request for a content reconstruction."""
    if isinstance(layers, int):
        raise ValueError("layers must be names for a content reconstruction, such as 'conv4_2'; a number is for styles")
    return pb.ReconstructContentRequest(
        content=_image(image),
        content_layers=_layers(layers),
        options=_options(options),
        **_submission(options),
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
        **_submission(options),
    )


def estimate_request(
    kind: str,
    pictures: Sequence[Any],
    layers: Layers | None = None,
    *,
    content_layers: Layers | None = None,
    style_layers: Layers | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    **options: Unpack[Options],
) -> pb.EstimateJobRequest:
    """The request for an estimate of a job of that kind, with the pictures that its own call takes."""
    wanted = {"style": 1, "content": 1, "transfer": 2}
    if kind not in wanted:
        raise ValueError(f"kind must be one of {', '.join(wanted)}, not {kind!r}")
    if len(pictures) != wanted[kind]:
        raise TypeError(f"an estimate of {kind} takes {wanted[kind]} arguments, as Client.{kind}, not {len(pictures)}")
    if kind == "style":
        return pb.EstimateJobRequest(style=style_request(pictures[0], layers, options))
    if kind == "content":
        return pb.EstimateJobRequest(content=content_request(pictures[0], layers, options))
    content, styles = pictures
    request = transfer_request(content, styles, content_layers, style_layers, content_weight, style_weight, options)
    return pb.EstimateJobRequest(transfer=request)


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
        kind=choice(model_service_pb2.FeatureKind, "FEATURE_KIND_", "kind", kind),
        size=size,
        pooling=choice(options_pb2.Pooling, "POOLING_", "pooling", pooling),
        model=model,
    )


def _options(options: Options) -> options_pb2.SynthesisOptions:
    unknown = set(options) - Options.__annotations__.keys()
    if unknown:
        known = ", ".join(sorted(Options.__annotations__))
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}; the options are {known}")
    plain = (
        "size", "iterations", "learning_rate", "seed", "tv_weight", "report_every", "model", "scales", "init_noise",
        "averaging", "plateau", "lbfgs_history", "tile_size",
    )  # fmt: skip
    fields: dict[str, Any] = {name: options.get(name) for name in plain}
    for name, enum in (
        ("fit", options_pb2.Fit),
        ("optimizer", options_pb2.Optimizer),
        ("precision", options_pb2.Precision),
        ("pooling", options_pb2.Pooling),
        ("padding", options_pb2.Padding),
        ("color", options_pb2.Color),
        ("loss_scale", options_pb2.LossScale),
    ):
        fields[name] = choice(enum, f"{name.upper()}_", name, cast(str | None, options.get(name)))
    init = options.get("init")
    if init in ("noise", "content", "style_statistics", "blend"):
        fields["init"] = choice(options_pb2.Init, "INIT_", "init", cast(str, init))
    elif init is not None:
        fields["init_image"] = _image(init)
    if (limit := options.get("time_limit")) is not None:
        fields["time_limit"] = timedelta(seconds=limit)
    preview = {name: options.get(f"preview_{name}") for name in ("every", "size")}
    image_format = choice(options_pb2.ImageFormat, "IMAGE_FORMAT_", "preview_format", options.get("preview_format"))
    fields["preview"] = options_pb2.PreviewOptions(format=image_format, **preview)  # type: ignore[arg-type]
    if "result_format" in options or "bit_depth" in options:
        result_format = choice(options_pb2.ImageFormat, "IMAGE_FORMAT_", "result_format", options.get("result_format"))
        fields["result"] = options_pb2.ResultOptions(format=result_format, bit_depth=options.get("bit_depth"))
    return options_pb2.SynthesisOptions(**fields)


def _submission(options: Options) -> dict[str, Any]:
    # The wire's default is to cancel, for clients that would not know how to come back; a Job does.
    on_disconnect = options.get("on_disconnect", "continue")
    return {
        "on_disconnect": choice(options_pb2.OnDisconnect, "ON_DISCONNECT_", "on_disconnect", on_disconnect),
        "request_id": options.get("request_id"),
        "priority": options.get("priority"),
    }


def _image(image: ImageLike) -> options_pb2.Image:
    if isinstance(image, Uploaded):
        return options_pb2.Image(sha256=image.sha256)
    return options_pb2.Image(data=encode(image))


def _styles(styles: ImageLike | Style | Sequence[ImageLike | Style]) -> list[options_pb2.StyleSource]:
    sources = []
    for style in styles if isinstance(styles, list | tuple) else [styles]:
        if not isinstance(style, Style):
            style = Style(cast("ImageLike", style))
        masks = {
            name: _image(mask)
            for name, mask in (("mask", style.mask), ("source_mask", style.source_mask))
            if mask is not None
        }
        image = _image(style.image)
        sources.append(options_pb2.StyleSource(image=image, weight=style.weight, scale=style.scale, **masks))
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


def choice(enum: Any, prefix: str, name: str, value: str | None) -> Any:
    """The enum's value that a word stands for; None for None."""
    if value is None:
        return None
    choices = {key.removeprefix(prefix).lower(): number for key, number in enum.items() if number}
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return choices[value]
