"""Construction of requests from keyword options: the part that the synchronous and the asynchronous client share.

An option that is not given is not set in the request, so that the server's default applies.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack, cast

from google.protobuf.message import Message

from .arguments import boolean, check_names, integer, number, text
from .brief import Value
from .images import encode
from .option import Option
from .options import OPTIONS, FeatureKind, JobKind, Options, Pooling
from .uploads import Uploaded
from .v1 import model_service_pb2, options_pb2
from .v1 import style_transfer_service_pb2 as pb

if TYPE_CHECKING:
    from .images import ImageLike

    Layers = int | str | Sequence[str] | Mapping[str, float]
    """A number (1 to 5: that many of VGG-19's style layers, from the first), a name, names, or names and weights."""

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


@dataclass(frozen=True, repr=False)
class Style(Value):
    """A picture to take style from, with options.

    Attributes:
        image: the picture.
        weight: share of this picture in the style, relative to the other styles. Default 1.
        scale: size of this picture relative to the canvas, 0.1 to 8. Default 1.
        mask: a picture that is white where this style is painted on the canvas. Default: everywhere.
        source_mask: a picture that is white where the style is taken from this picture. Default: everywhere.
        source_map: a picture of the regions of this picture, each in one color; see the option `canvas_map`.
    """

    image: ImageLike
    weight: float | None = None
    scale: float | None = None
    mask: ImageLike | None = None
    source_mask: ImageLike | None = None
    source_map: ImageLike | None = None


def style_request(
    styles: ImageLike | Style | Sequence[ImageLike | Style], layers: Layers | None, options: Options
) -> pb.ReconstructStyleRequest:
    """Returns the request for a style reconstruction; see Client.style for the arguments and errors."""
    request = pb.ReconstructStyleRequest(styles=_styles(styles), style_layers=_layers(layers))
    _set_options(request, options)
    return request


def content_request(image: ImageLike, layers: Layers | None, options: Options) -> pb.ReconstructContentRequest:
    """Returns the request for a content reconstruction; see Client.content for the arguments and errors."""
    if isinstance(layers, numbers.Number):
        raise ValueError(
            "layers must be names for a content reconstruction, such as 'conv4_2'; a number is allowed for styles only"
        )
    request = pb.ReconstructContentRequest(content=_image(image), content_layers=_layers(layers))
    _set_options(request, options)
    return request


def transfer_request(
    content: ImageLike,
    styles: ImageLike | Style | Sequence[ImageLike | Style],
    content_layers: Layers | None,
    style_layers: Layers | None,
    content_weight: float | None,
    style_weight: float | None,
    options: Options,
) -> pb.TransferStyleRequest:
    """Returns the request for a style transfer; see Client.transfer for the arguments and errors."""
    request = pb.TransferStyleRequest(
        content=_image(content),
        styles=_styles(styles),
        content_layers=_layers(content_layers),
        style_layers=_layers(style_layers),
        content_weight=number("content_weight", content_weight, 1),
        style_weight=number("style_weight", style_weight, 1000),
    )
    _set_options(request, options)
    return request


def estimate_request(
    kind: JobKind,
    pictures: Sequence[Any],
    layers: Layers | None = None,
    *,
    content_layers: Layers | None = None,
    style_layers: Layers | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    **options: Unpack[Options],
) -> pb.EstimateJobRequest:
    """Returns the request for an estimate of a job.

    Args:
        kind: "style", "content" or "transfer".
        pictures: positional arguments of Client.style, Client.content or Client.transfer.
    """
    expected = {"style": 1, "content": 1, "transfer": 2}
    if kind not in expected:
        raise ValueError(f"kind must be one of {', '.join(expected)}, not {kind!r}")
    if len(pictures) != expected[kind]:
        count = f"{expected[kind]} argument{'' if expected[kind] == 1 else 's'}"
        raise TypeError(f"an estimate of {kind} takes {count}, like Client.{kind}, not {len(pictures)}")
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
    kind: FeatureKind | None,
    size: int | None,
    pooling: Pooling | None,
    model: str | None,
) -> model_service_pb2.ExtractFeaturesRequest:
    """Returns the request for features of a picture; see Client.features for the arguments."""
    return model_service_pb2.ExtractFeaturesRequest(
        image=_image(image),
        layers=layers,
        kind=choice(words(model_service_pb2.FeatureKind), "kind", kind),
        size=integer("size", size, 512),
        pooling=choice(words(options_pb2.Pooling), "pooling", pooling),
        model=text("model", model),
    )


def _set_options(request: Any, options: Options) -> None:
    """Sets the request's fields for the given options."""
    check_names(options, Options.__annotations__)
    for option in OPTIONS:
        value = options.get(option.name)
        if value is None:
            value = option.sent or None
        if value is not None:
            _set(request, option, value)


def _set(request: Any, option: Option, value: Any) -> None:
    path = option.path
    read: Any
    if option.weights_path and not isinstance(value, str):
        path, read = option.weights_path, _weights(option, value)
    elif option.image_path and not (isinstance(value, str) and value in option.choices):
        path, read = option.image_path, _image(value)
    else:
        read = _read(option, value)
    *outer, name = path.split(".")
    message = request
    for part in outer:
        message = getattr(message, part)
    if isinstance(read, timedelta):
        getattr(message, name).FromTimedelta(read)
    elif isinstance(read, Message):
        getattr(message, name).CopyFrom(read)
    elif isinstance(read, list):
        getattr(message, name).extend(read)
    else:
        setattr(message, name, read)


def _read(option: Option, value: Any) -> Any:
    match option.type:
        case "integer":
            return integer(option.name, value, int(option.example), option.bounds)
        case "number":
            return number(option.name, value, float(option.example))
        case "boolean":
            return boolean(option.name, value)
        case "text":
            return text(option.name, value)
        case "duration":
            seconds = number(option.name, value, float(option.example))
            assert seconds is not None
            return _duration(option.name, seconds)
        case "choice":
            return choice(option.choices, option.name, value)
        case _:
            return _image(value)


def _weights(option: Option, value: Any) -> list[options_pb2.StyleLossWeight]:
    """Reads several words, or words with weights."""
    if not isinstance(value, Iterable) or isinstance(value, bytes) or not value:
        raise TypeError(f"{option.name} must be a word, words, or words with weights, not {value!r}")
    weights: Any = value if isinstance(value, Mapping) else dict.fromkeys(value)
    if len(weights) != len(list(value)):
        raise ValueError(f"{option.name} has a word twice: {', '.join(map(str, value))}")
    return [
        options_pb2.StyleLossWeight(
            loss=choice(option.choices, option.name, word), weight=number(f"weight of {option.name} {word}", weight, 1)
        )
        for word, weight in weights.items()
    ]


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
            for name in ("mask", "source_mask", "source_map")
            if (mask := getattr(style, name)) is not None
        }
        image = _image(style.image)
        weight, scale = number("weight of a Style", style.weight, 2), number("scale of a Style", style.scale, 0.5)
        sources.append(options_pb2.StyleSource(image=image, weight=weight, scale=scale, **masks))
    return sources


def _duration(name: str, seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{name} must be a smaller number of seconds than {seconds:g}; write 60") from None


def _layers(layers: Any) -> list[options_pb2.LayerWeight]:
    if layers is None:
        return []
    if isinstance(layers, numbers.Number) or getattr(layers, "shape", None) == ():
        layers = integer("layers", layers, len(STYLE_LAYERS))
        assert layers is not None
        if not 1 <= layers <= len(STYLE_LAYERS):
            raise ValueError(f"layers must be a number from 1 to {len(STYLE_LAYERS)}, or names, not {layers}")
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
        raise TypeError(
            f"layers must be a number from 1 to {len(STYLE_LAYERS)}, a name, names, or names with weights, not {kind}"
        )
    return [options_pb2.LayerWeight(layer=_layer(name)) for name in layers]


def _layer(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"layers must be names such as 'conv4_1', not {name!r}")
    return name


def choice(choices: Mapping[str, int], name: str, value: Any) -> Any:
    """Returns the number of an enum's word; None for None, which means that the option is not set.

    Args:
        choices: the allowed words and their numbers.
        name: name of the option, for messages.

    Raises:
        ValueError: the value is not one of the words.
    """
    if value is None:
        return None
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return choices[value]


def words(enum: Any) -> dict[str, int]:
    """Returns the words of an enum's values ("lbfgs" for OPTIMIZER_LBFGS) and their numbers, without the zero value."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return {key.removeprefix(prefix).lower(): number for key, number in enum.items() if number}
