"""From keyword options to requests: what the synchronous and the asynchronous client share.

An option that is not given is not set in the request: the defaults are the server's, and written down there alone.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from .arguments import integer, known, number, text
from .brief import Value
from .images import encode
from .uploads import Uploaded
from .v1 import model_service_pb2, options_pb2
from .v1 import style_transfer_service_pb2 as pb

if TYPE_CHECKING:
    from .images import ImageLike

    Layers = int | str | Sequence[str] | Mapping[str, float]
    """1 to 5 for the first so many of the paper's style layers, a name, names, or names with their weights."""

# Options that are numbers, each with one that may be written.
_INTEGERS = {
    "size": 512, "iterations": 300, "seed": 0, "report_every": 10, "scales": 3, "lbfgs_history": 20, "tile_size": 512,
}  # fmt: skip
_NUMBERS = {"learning_rate": 1.0, "tv_weight": 0.1, "init_noise": 0.5, "averaging": 0.99, "plateau": 0.001}
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
        submission=_submission(options),
    )


def content_request(image: ImageLike, layers: Layers | None, options: Options) -> pb.ReconstructContentRequest:
    """The request for a content reconstruction."""
    if isinstance(layers, numbers.Number):
        raise ValueError("layers must be names for a content reconstruction, such as 'conv4_2'; a number is for styles")
    return pb.ReconstructContentRequest(
        content=_image(image),
        content_layers=_layers(layers),
        options=_options(options),
        submission=_submission(options),
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
        content_weight=number("content_weight", content_weight, 1),
        style_weight=number("style_weight", style_weight, 1000),
        options=_options(options),
        submission=_submission(options),
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
        size=integer("size", size, 512),
        pooling=choice(options_pb2.Pooling, "POOLING_", "pooling", pooling),
        model=text("model", model),
    )


def _options(options: Options) -> options_pb2.SynthesisOptions:
    known(options, Options.__annotations__)
    fields: dict[str, Any] = {name: integer(name, options.get(name), example) for name, example in _INTEGERS.items()}
    fields |= {name: number(name, options.get(name), example) for name, example in _NUMBERS.items()}
    fields["model"] = text("model", options.get("model"))
    enums: tuple[tuple[str, Any], ...] = (
        ("fit", options_pb2.Fit),
        ("optimizer", options_pb2.Optimizer),
        ("precision", options_pb2.Precision),
        ("pooling", options_pb2.Pooling),
        ("padding", options_pb2.Padding),
        ("color", options_pb2.ColorMode),
        ("loss_scale", options_pb2.LossScale),
    )
    for name, enum in enums:
        prefix = enum.Name(0).removesuffix("UNSPECIFIED")
        fields[name] = choice(enum, prefix, name, cast(str | None, options.get(name)))
    init = options.get("init")
    if isinstance(init, str) and init in ("noise", "content", "style_statistics", "blend"):
        fields["init"] = choice(options_pb2.Init, "INIT_", "init", init)
    elif init is not None:
        fields["init_image"] = _image(init)
    if (limit := number("time_limit", options.get("time_limit"), 60)) is not None:
        fields["time_limit"] = _duration("time_limit", limit)
    preview = {
        name: integer(f"preview_{name}", options.get(f"preview_{name}"), example)
        for name, example in (("every", 1), ("size", 256))
    }
    image_format = choice(options_pb2.ImageFormat, "IMAGE_FORMAT_", "preview_format", options.get("preview_format"))
    fields["preview"] = options_pb2.PreviewOptions(format=image_format, **preview)
    if "result_format" in options or "bit_depth" in options:
        result_format = choice(options_pb2.ImageFormat, "IMAGE_FORMAT_", "result_format", options.get("result_format"))
        bit_depth = integer("bit_depth", options.get("bit_depth"), 8)
        fields["result"] = options_pb2.ResultOptions(format=result_format, bit_depth=bit_depth)
    return options_pb2.SynthesisOptions(**fields)


def _submission(options: Options) -> options_pb2.Submission:
    # The wire's default is to cancel, for clients that would not know how to come back; a Job does.
    on_disconnect = options.get("on_disconnect") or "continue"
    return options_pb2.Submission(
        on_disconnect=choice(options_pb2.OnDisconnect, "ON_DISCONNECT_", "on_disconnect", on_disconnect),
        request_id=text("request_id", options.get("request_id")) or "",
        priority=integer("priority", options.get("priority"), 0),
    )


def _image(image: ImageLike) -> options_pb2.InputImage:
    if isinstance(image, Uploaded):
        return options_pb2.InputImage(sha256=image.sha256)
    return options_pb2.InputImage(data=encode(image))


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
        weight, scale = number("weight of a Style", style.weight, 2), number("scale of a Style", style.scale, 0.5)
        sources.append(options_pb2.StyleSource(image=image, weight=weight, scale=scale, **masks))
    return sources


def _duration(name: str, seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{name} must be seconds, and not as many as {seconds:g}; write 60") from None


def _layers(layers: Any) -> list[options_pb2.LayerWeight]:
    if layers is None:
        return []
    if isinstance(layers, numbers.Number) or getattr(layers, "shape", None) == ():
        layers = integer("layers", layers, len(STYLE_LAYERS))
        assert layers is not None
        if not 1 <= layers <= len(STYLE_LAYERS):
            raise ValueError(f"layers must be 1 to {len(STYLE_LAYERS)}, or names, not {layers}")
        layers = STYLE_LAYERS[:layers]
    if isinstance(layers, str):
        layers = [layers]
    if isinstance(layers, Mapping):
        return [
            options_pb2.LayerWeight(layer=_layer(name), weight=number(f"weight of layer {name}", weight, 1))
            for name, weight in layers.items()
        ]
    if isinstance(layers, bytes) or not isinstance(layers, Iterable):
        kind = type(layers).__name__
        raise TypeError(f"layers must be 1 to {len(STYLE_LAYERS)}, a name, names, or names with weights, not {kind}")
    return [options_pb2.LayerWeight(layer=_layer(name)) for name in layers]


def _layer(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"layers must be names such as 'conv4_1'; {name!r} is none")
    return name


def choice(enum: Any, prefix: str, name: str, value: str | None) -> Any:
    """The enum's value that a word stands for; None for None."""
    if value is None:
        return None
    choices = {key.removeprefix(prefix).lower(): number for key, number in enum.items() if number}
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return choices[value]
