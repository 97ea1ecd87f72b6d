"""From a request to a JobSpec: every check a job passes before it is accepted."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gramophone.v1 import model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb

from ..messages.options import JobKind, SynthesisOptions
from ..messages.pyramid import levels_of
from ..messages.spec import JobSpec, LayerWeight, Mask, Picture, StylePicture
from ..models.layers import CONTENT_LAYERS, STYLE_LAYERS, LossScaleName, PoolingName, canonical_layer
from ..models.manifest import Manifest
from ..models.store import ModelStore, UnknownModelError
from ..rpc.violations import Checker, InvalidRequestError, NotFoundError
from ..settings import Limits
from .options import AT, read_options
from .rules import read_field
from .sources import Source, Sources

MAX_STYLES = 16
# Beta of equation 7, beside an alpha of 1. In the paper's units its ratio of 1e-3; relative losses are all about 1.
STYLE_WEIGHT: dict[LossScaleName, float] = {"paper": 1e3, "relative": 10.0}


@dataclass(frozen=True)
class FeatureRequest:
    """An ExtractFeatures request, checked, its picture decoded."""

    model: str
    picture: Picture
    layers: tuple[str, ...]
    gram: bool
    pooling: PoolingName


class RequestReader:
    """Checks requests against the contract, the models there are and the limits of this server.

    The pixels of what it reads are in the staging folder of the request's `Sources`. Its methods raise
    InvalidRequestError with all violations, or NotFoundError; and what `Sources.open` raises.
    """

    def __init__(self, models: ModelStore, default_model: str, limits: Limits) -> None:
        self._models = models
        self._default_model = default_model
        self._limits = limits

    async def style(self, request: pb.ReconstructStyleRequest, sources: Sources) -> JobSpec:
        """The job that a style reconstruction asks for."""
        layers = request.style_layers
        return await self._job("style", request.options, None, request.styles, (), layers, 0.0, 1.0, sources, Checker())

    async def content(self, request: pb.ReconstructContentRequest, sources: Sources) -> JobSpec:
        """The job that a content reconstruction asks for."""
        content, layers = request.content, request.content_layers
        return await self._job("content", request.options, content, (), layers, (), 1.0, 0.0, sources, Checker())

    async def transfer(self, request: pb.TransferStyleRequest, sources: Sources) -> JobSpec:
        """The job that a style transfer asks for."""
        check = Checker()
        alpha = read_field(request, "content_weight", check)
        beta = read_field(request, "style_weight", check)
        if beta is None:
            # What is wrong with the scale is noted with the other options.
            scale = read_field(request.options, "loss_scale", Checker())
            beta = STYLE_WEIGHT[scale or self._manifest(request.options, "options.model").loss_scale]
        if alpha == beta == 0:
            check.add("style_weight", "is 0 together with content_weight, which leaves nothing to optimize")
        return await self._job(
            "transfer", request.options, request.content, request.styles,
            request.content_layers, request.style_layers, alpha, beta, sources, check,
        )  # fmt: skip

    async def estimate(self, request: pb.EstimateJobRequest, sources: Sources) -> JobSpec:
        """The job that an estimate is asked for."""
        match request.WhichOneof("job"):
            case "style":
                return await self.style(request.style, sources)
            case "content":
                return await self.content(request.content, sources)
            case "transfer":
                return await self.transfer(request.transfer, sources)
        raise InvalidRequestError([("job", "is missing; set one of style, content and transfer")])

    async def features(self, request: model_service_pb2.ExtractFeaturesRequest, sources: Sources) -> FeatureRequest:
        """What an ExtractFeatures request asks for."""
        check = Checker()
        manifest = self._manifest(request, "model")
        layers = [options_pb2.LayerWeight(layer=name) for name in request.layers]
        read = _layers(layers, "layers", STYLE_LAYERS, 1.0, manifest, check, name_field="")
        names = tuple(w.layer for w in read)
        size = read_field(request, "size", check)
        kind = read_field(request, "kind", check)
        pooling: PoolingName = read_field(request, "pooling", check) or manifest.pooling
        image = Source(request.image, "image")
        await sources.open([image], check)
        check.stop_if_wrong()
        assert image.header is not None
        width, height = image.fitted(size, "longest_side") if size else (image.header.width, image.header.height)
        _check_size(width, height, names, manifest, "image", check)
        self._check_reply(width, height, names, manifest, kind, check)
        check.stop_if_wrong()
        picture = await sources.picture(image, width, height, check)
        check.stop_if_wrong()
        return FeatureRequest(manifest.name, picture, names, kind == "gram", pooling)

    async def _job(
        self,
        kind: JobKind,
        options: options_pb2.SynthesisOptions,
        content: options_pb2.InputImage | None,
        styles: Sequence[options_pb2.StyleSource],
        content_layers: Sequence[options_pb2.LayerWeight],
        style_layers: Sequence[options_pb2.LayerWeight],
        content_weight: float,
        style_weight: float,
        sources: Sources,
        check: Checker,
    ) -> JobSpec:
        manifest = self._manifest(options, "options.model")
        read = read_options(options, kind, manifest, check)
        if read.iterations > self._limits.max_iterations:
            most = f"{self._limits.max_iterations:,}"
            check.add(AT + "iterations", f"is {read.iterations}, but this server makes at most {most}")
        of_content: tuple[LayerWeight, ...] = ()
        of_style: tuple[LayerWeight, ...] = ()
        if kind != "style":
            of_content = _layers(content_layers, "content_layers", CONTENT_LAYERS, 1.0, manifest, check)
        if kind != "content":
            of_style = _layers(style_layers, "style_layers", STYLE_LAYERS, None, manifest, check)
            _check_styles(styles, check)
        if not options.HasField("tv_weight"):
            smoothing = _smoothing(
                read.tv_weight, content_weight, of_content, style_weight, STYLE_WEIGHT[read.loss_scale]
            )
            read = replace(read, tv_weight=smoothing)
        check.stop_if_wrong()

        files = _Files(content, styles, options.init_image if read.init == "image" else None)
        await sources.open(files.all(), check)
        check.stop_if_wrong()

        width, height = files.frame.fitted(read.size, read.fit)
        if width * height > self._limits.max_pixels:
            limit = f"{self._limits.max_pixels:,}"
            check.add("options.size", f"makes a canvas of {width}x{height}; this server takes at most {limit} pixels")
            check.stop_if_wrong()
        sizes = [_scaled(style, source, read) for style, source in zip(styles, files.styles, strict=True)]
        self._check_scaled(styles, sizes, check)
        layers = [w.layer for w in (*of_content, *of_style)]
        _check_size(width, height, layers, manifest, "options.size", check, what="the canvas")
        for i, size in enumerate(sizes):
            _check_size(*size, [w.layer for w in of_style], manifest, f"styles[{i}].image", check)
        check.stop_if_wrong()

        async def picture(source: Source | None) -> Picture | None:
            return None if source is None else await sources.picture(source, width, height, check)

        spec = JobSpec(
            kind=kind,
            width=width,
            height=height,
            content=await picture(files.content),
            styles=await self._styles(styles, files, sizes, (width, height), sources, check),
            content_layers=of_content,
            style_layers=of_style,
            content_weight=content_weight,
            style_weight=style_weight,
            init_image=await picture(files.start),
            levels=levels_of(
                kind,
                read.optimizer,
                (width, height),
                read.iterations,
                number=read.scales,
                least=_stride((*of_content, *of_style), manifest),
            ),
            options=read,
        )
        check.stop_if_wrong()
        return spec

    async def _styles(
        self,
        styles: Sequence[options_pb2.StyleSource],
        files: "_Files",
        sizes: Sequence[tuple[int, int]],
        canvas: tuple[int, int],
        sources: Sources,
        check: Checker,
    ) -> tuple[StylePicture, ...]:
        async def mask(source: Source | None, size: tuple[int, int]) -> Mask | None:
            return None if source is None else await sources.mask(source, *size, check)

        shares = _shares([s.weight if s.HasField("weight") else 1.0 for s in styles])
        pictures = []
        for i, (size, share) in enumerate(zip(sizes, shares, strict=True)):
            pictures.append(
                StylePicture(
                    await sources.picture(files.styles[i], *size, check),
                    share,
                    await mask(files.masks[i], canvas),
                    await mask(files.source_masks[i], size),
                )
            )
        return tuple(pictures)

    def _manifest(
        self, message: options_pb2.SynthesisOptions | model_service_pb2.ExtractFeaturesRequest, field: str
    ) -> Manifest:
        name = message.model if message.HasField("model") else self._default_model
        try:
            return self._models.get(name).manifest
        except UnknownModelError as error:
            raise NotFoundError(field, "model", name, str(error)) from error

    def _check_scaled(
        self, styles: Sequence[options_pb2.StyleSource], sizes: Sequence[tuple[int, int]], check: Checker
    ) -> None:
        """Sees that no style is scaled to far more than was sent: up to 8 times the canvas, which is 64 of its area."""
        for i, (style, (width, height)) in enumerate(zip(styles, sizes, strict=True)):
            if width * height > self._limits.max_pixels:
                limit = f"{self._limits.max_pixels:,}"
                reason = f"makes a picture of {width}x{height}; this server takes at most {limit} pixels"
                check.add(f"styles[{i}].{'scale' if style.HasField('scale') else 'image'}", reason)
        together = sum(width * height for width, height in sizes)
        if together > (most := self._limits.max_request_pixels):
            check.add("styles", f"have {together:,} pixels at their scales; one request may have {most:,}")

    def _check_reply(
        self, width: int, height: int, layers: Sequence[str], manifest: Manifest, kind: str, check: Checker
    ) -> None:
        """Sees that the features asked for fit into a reply: the front holds all of it."""
        positions = {layer.stride: (width // layer.stride) * (height // layer.stride) for layer in manifest.layers}
        size = sum(
            4 * layer.channels * (layer.channels if kind == "gram" else positions[layer.stride])
            for layer in manifest.layers
            if layer.name in layers
        )
        if size > (most := self._limits.max_features_bytes):
            check.add(
                "layers",
                f"would make {size / 2**20:,.0f} MiB of values from a picture of {width}x{height}, but "
                f"this server sends at most {most / 2**20:,.0f}; ask for fewer layers, matrices, or a smaller size",
            )


class _Files:
    """The picture files of a job: of content, styles, their masks, and the start."""

    def __init__(
        self,
        content: options_pb2.InputImage | None,
        styles: Sequence[options_pb2.StyleSource],
        start: options_pb2.InputImage | None,
    ) -> None:
        def mask(number: int, style: options_pb2.StyleSource, name: Literal["mask", "source_mask"]) -> Source | None:
            return Source(getattr(style, name), f"styles[{number}].{name}") if style.HasField(name) else None

        self.content = None if content is None else Source(content, "content")
        self.styles = [Source(style.image, f"styles[{i}].image") for i, style in enumerate(styles)]
        self.masks = [mask(i, style, "mask") for i, style in enumerate(styles)]
        self.source_masks = [mask(i, style, "source_mask") for i, style in enumerate(styles)]
        self.start = None if start is None else Source(start, "options.init_image")

    @property
    def frame(self) -> Source:
        """The picture that the canvas is fitted to."""
        return self.content or self.styles[0]

    def all(self) -> list[Source]:
        """All of them."""
        found = (self.content, *self.styles, *self.masks, *self.source_masks, self.start)
        return [source for source in found if source is not None]


def _layers(
    layers: Sequence[options_pb2.LayerWeight],
    field: str,
    default: Sequence[str],
    weight: float | None,
    manifest: Manifest,
    check: Checker,
    *,
    name_field: str = ".layer",
) -> tuple[LayerWeight, ...]:
    """Layers with their weights; an unset weight is `weight`, or 1 / number of layers where that is None.

    An error names a layer by `field`, its number and `name_field`.
    """
    if not layers:
        layers = [options_pb2.LayerWeight(layer=name) for name in default]
    known = [layer.name for layer in manifest.layers]
    read: list[LayerWeight] = []
    for i, layer in enumerate(layers):
        name = canonical_layer(layer.layer)
        if name not in known:
            reason = f"is {layer.layer!r}, but the model {manifest.name} has the layers {', '.join(known)}"
            check.add(f"{field}[{i}]{name_field}", reason)
        elif name in (w.layer for w in read):
            check.add(f"{field}[{i}]{name_field}", f"is {layer.layer!r}, which is there already; name each layer once")
        unset = 1 / len(layers) if weight is None else weight
        given = read_field(layer, "weight", check, at=f"{field}[{i}].")
        read.append(LayerWeight(name, unset if given is None else given))
    if not any(w.weight for w in read):
        check.add(field, "have weights that are all 0, which leaves nothing to optimize")
    return tuple(read)


def _check_styles(styles: Sequence[options_pb2.StyleSource], check: Checker) -> None:
    if not 1 <= len(styles) <= MAX_STYLES:
        check.add("styles", f"has {len(styles)} pictures, but must have 1 to {MAX_STYLES}")
        return
    weights = [read_field(s, "weight", check, at=f"styles[{i}].") for i, s in enumerate(styles)]
    if not any(weights):
        check.add("styles", "have weights that sum to 0; give at least one a weight greater than 0")
    for i, style in enumerate(styles):
        read_field(style, "scale", check, at=f"styles[{i}].")


def _shares(weights: Sequence[float]) -> list[float]:
    """Each weight's part of their sum, which may be beyond a float."""
    _, exponent = math.frexp(max(weights, default=0.0))
    # Times a power of two, which rounds nothing.
    small = [math.ldexp(weight, -exponent) for weight in weights]
    return [weight / sum(small) for weight in small]


def _smoothing(
    default: float, content_weight: float, of_content: Sequence[LayerWeight], style_weight: float, usual: float
) -> float:
    """The default weight of the total variation beside these weights: it was chosen beside a content weight of 1."""
    largest = content_weight * max((w.weight for w in of_content), default=0.0)
    factor = largest if largest else style_weight / usual
    return min(default * factor, sys.float_info.max)


def _scaled(style: options_pb2.StyleSource, source: Source, options: SynthesisOptions) -> tuple[int, int]:
    """Width and height of a style's picture as it is looked at."""
    scale = style.scale if style.HasField("scale") else 1.0
    return source.fitted(max(1, round(options.size * scale)), options.fit)


def _stride(layers: Sequence[LayerWeight], manifest: Manifest) -> int:
    names = [layer.layer for layer in layers]
    return max(layer.stride for layer in manifest.layers if layer.name in names)


def _check_size(
    width: int,
    height: int,
    layers: Sequence[str],
    manifest: Manifest,
    field: str,
    check: Checker,
    *,
    what: str = "it",
) -> None:
    stride, deepest = max((layer.stride, layer.name) for layer in manifest.layers if layer.name in layers)
    if min(width, height) < stride:
        check.add(field, f"{what} would be {width}x{height}, but {deepest} needs {stride} pixels a side")
