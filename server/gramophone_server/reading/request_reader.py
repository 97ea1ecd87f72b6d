"""Turns a request into a JobSpec, with all checks that a job must pass before it is accepted."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gramophone.v1 import model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb

from ..decoding.messages import Regions
from ..messages.options import JobKind, SynthesisOptions
from ..messages.pyramid import levels_of
from ..messages.spec import JobSpec, LayerWeight, Mask, Picture, StyleLayer, StylePicture, wraps_of
from ..models.layers import LossScaleName, PoolingName, canonical_layer
from ..models.manifest import Manifest
from ..models.store import ModelStore, UnknownModelError
from ..rpc.violations import Checker, InvalidRequestError, NotFoundError
from ..settings import Limits
from .options import PREFIX, read_options
from .region_maps import CANVAS_MAP, match_regions
from .request_images import RequestImage, RequestImages
from .rules import read_field
from .style_losses import default_loss_scale, layers_of, losses_of

MAX_STYLES = 16
# Maximum difference of the aspect ratios of a map and its picture, which may be rounded to a few pixels.
_SHAPE_TOLERANCE = 0.03
# Default beta of equation 7 for alpha = 1: the paper's ratio of 1e-3 in its units; all relative losses are about 1.
STYLE_WEIGHT: dict[LossScaleName, float] = {"paper": 1e3, "relative": 10.0}


@dataclass(frozen=True)
class FeatureSpec:
    """A valid ExtractFeatures request with its decoded picture."""

    model: str
    picture: Picture
    layers: tuple[str, ...]
    gram: bool
    pooling: PoolingName


class RequestReader:
    """Checks requests against the contract, the installed models and the limits of the server.

    The pixels of decoded pictures are in the staging folder of the request's `RequestImages`. The methods raise
    InvalidRequestError with all violations, NotFoundError, and the errors of `RequestImages.open`.
    """

    def __init__(self, models: ModelStore, default_model: str, limits: Limits) -> None:
        self._models = models
        self._default_model = default_model
        self._limits = limits

    async def style(self, request: pb.ReconstructStyleRequest, images: RequestImages) -> JobSpec:
        """Returns the job of a ReconstructStyle request."""
        layers = request.style_layers
        return await self._job("style", request.options, None, request.styles, (), layers, 0.0, 1.0, images, Checker())

    async def content(self, request: pb.ReconstructContentRequest, images: RequestImages) -> JobSpec:
        """Returns the job of a ReconstructContent request."""
        content, layers = request.content, request.content_layers
        return await self._job("content", request.options, content, (), layers, (), 1.0, 0.0, images, Checker())

    async def transfer(self, request: pb.TransferStyleRequest, images: RequestImages) -> JobSpec:
        """Returns the job of a TransferStyle request."""
        check = Checker()
        alpha = read_field(request, "content_weight", check)
        beta = read_field(request, "style_weight", check)
        if beta is None:
            # Violations of loss_scale are added with those of the other options.
            scale = read_field(request.options, "loss_scale", Checker())
            manifest = self._manifest(request.options, "options.model")
            beta = STYLE_WEIGHT[scale or default_loss_scale(request.options, manifest)]
        if alpha == beta == 0:
            check.add("style_weight", "is 0 and so is content_weight, which leaves nothing to optimize")
        return await self._job(
            "transfer", request.options, request.content, request.styles,
            request.content_layers, request.style_layers, alpha, beta, images, check,
        )  # fmt: skip

    async def estimate(self, request: pb.EstimateJobRequest, images: RequestImages) -> JobSpec:
        """Returns the job of an EstimateJob request."""
        match request.WhichOneof("job"):
            case "style":
                return await self.style(request.style, images)
            case "content":
                return await self.content(request.content, images)
            case "transfer":
                return await self.transfer(request.transfer, images)
        raise InvalidRequestError([("job", "is missing; set one of style, content and transfer")])

    async def features(self, request: model_service_pb2.ExtractFeaturesRequest, images: RequestImages) -> FeatureSpec:
        """Reads an ExtractFeatures request."""
        check = Checker()
        manifest = self._manifest(request, "model")
        layers = [options_pb2.LayerWeight(layer=name) for name in request.layers]
        read = _read_layers(layers, "layers", manifest.style_layers, 1.0, manifest, check, name_field="")
        names = tuple(w.layer for w in read)
        size = read_field(request, "size", check)
        kind = read_field(request, "kind", check)
        pooling: PoolingName = read_field(request, "pooling", check) or manifest.pooling
        image = RequestImage(request.image, "image")
        await images.open([image], check)
        check.stop_if_wrong()
        assert image.header is not None
        width, height = image.fitted(size, "longest_side") if size else (image.header.width, image.header.height)
        _check_size(width, height, names, manifest, "image", check)
        self._check_reply(width, height, names, manifest, kind, check)
        check.stop_if_wrong()
        picture = await images.picture(image, width, height, check)
        check.stop_if_wrong()
        return FeatureSpec(manifest.name, picture, names, kind == "gram", pooling)

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
        images: RequestImages,
        check: Checker,
    ) -> JobSpec:
        manifest = self._manifest(options, "options.model")
        read = read_options(options, kind, manifest, check)
        if read.iterations > self._limits.max_iterations:
            most = f"{self._limits.max_iterations:,}"
            check.add(PREFIX + "iterations", f"is {read.iterations}, but this server allows at most {most}")
        read_content_layers: tuple[LayerWeight, ...] = ()
        read_style_layers: tuple[StyleLayer, ...] = ()
        if kind != "style":
            usual = manifest.content_layers
            read_content_layers = _read_layers(content_layers, "content_layers", usual, 1.0, manifest, check)
        if kind != "content":
            given = _read_layers(style_layers, "style_layers", (), None, manifest, check) if style_layers else ()
            read_style_layers = layers_of(losses_of(read), given, manifest.style_layers)
            _check_styles(styles, check)
            if read.outside == "keep" and not options.HasField("canvas_map"):
                _check_masks(styles, check)
        _check_maps(options, styles, kind, check)
        if kind == "style" and options.HasField("canvas_map") and not options.fit:
            read = replace(read, fit="longest_side")
        if not options.HasField("tv_weight"):
            tv_weight = _default_tv_weight(
                read.tv_weight, content_weight, read_content_layers, style_weight, STYLE_WEIGHT[read.loss_scale]
            )
            read = replace(read, tv_weight=tv_weight)
        check.stop_if_wrong()

        canvas_map = options.canvas_map if options.HasField("canvas_map") else None
        job_images = _JobImages(content, styles, options.init_image if read.init == "image" else None, canvas_map)
        await images.open(job_images.all(), check)
        check.stop_if_wrong()

        job_images.check_maps(check)
        check.stop_if_wrong()
        width, height = _size_that_wraps(job_images.aspect.fitted(read.size, read.fit), read, check)
        if width * height > self._limits.max_pixels:
            limit = f"{self._limits.max_pixels:,}"
            check.add("options.size", f"makes a canvas of {width}x{height}; this server takes at most {limit} pixels")
            check.stop_if_wrong()
        sizes = [_scaled_size(style, image, read) for style, image in zip(styles, job_images.styles, strict=True)]
        self._check_scaled_sizes(styles, sizes, check)
        style_names = [w.layer for w in read_style_layers if w.layer]
        layers = [*(w.layer for w in read_content_layers), *style_names]
        _check_size(width, height, layers, manifest, "options.size", check, what="the canvas")
        for i, size in enumerate(sizes):
            _check_size(*size, style_names, manifest, f"styles[{i}].image", check)
        check.stop_if_wrong()

        async def picture(image: RequestImage | None, *, alpha: bool = False) -> Picture | None:
            return None if image is None else await images.picture(image, width, height, check, alpha=alpha)

        alpha = read.transparency == "keep"
        spec = JobSpec(
            kind=kind,
            width=width,
            height=height,
            content=await picture(job_images.content, alpha=alpha),
            styles=await self._styles(styles, job_images, sizes, (width, height), images, check, read),
            content_layers=read_content_layers,
            style_layers=read_style_layers,
            content_weight=content_weight,
            style_weight=style_weight,
            init_image=await picture(job_images.start),
            levels=levels_of(
                kind,
                read.optimizer,
                (width, height),
                read.iterations,
                number=read.scales,
                min_side=_min_side((*read_content_layers, *read_style_layers), manifest),
                multiple=max(manifest.layer(layer).stride for layer in layers),
                wraps=wraps_of(read),
            ),
            options=read,
        )
        check.stop_if_wrong()
        await _check_visible(spec, job_images, images, check)
        check.stop_if_wrong()
        return spec

    async def _styles(
        self,
        styles: Sequence[options_pb2.StyleSource],
        job_images: "_JobImages",
        sizes: Sequence[tuple[int, int]],
        canvas: tuple[int, int],
        images: RequestImages,
        check: Checker,
        options: SynthesisOptions,
    ) -> tuple[StylePicture, ...]:
        async def mask(image: RequestImage | None, size: tuple[int, int]) -> Mask | None:
            return None if image is None else await images.mask(image, *size, check)

        alpha = options.transparency == "keep"
        shares = _shares([s.weight if s.HasField("weight") else 1.0 for s in styles])
        pictures = []
        for i, (size, share) in enumerate(zip(sizes, shares, strict=True)):
            pictures.append(
                StylePicture(
                    await images.picture(job_images.styles[i], *size, check, alpha=alpha),
                    share,
                    await mask(job_images.masks[i], canvas),
                    await mask(job_images.source_masks[i], size),
                )
            )
        if job_images.canvas_map is None:
            return tuple(pictures)
        return await _with_regions(pictures, job_images, canvas, images, check, keep=options.outside == "keep")

    def _manifest(
        self, message: options_pb2.SynthesisOptions | model_service_pb2.ExtractFeaturesRequest, field: str
    ) -> Manifest:
        name = message.model if message.HasField("model") else self._default_model
        try:
            return self._models.get(name).manifest
        except UnknownModelError as error:
            raise NotFoundError(field, "model", name, str(error)) from error

    def _check_scaled_sizes(
        self, styles: Sequence[options_pb2.StyleSource], sizes: Sequence[tuple[int, int]], check: Checker
    ) -> None:
        """Checks the pixels of the scaled styles: `scale` goes up to 8 times the canvas, which is 64 times its area."""
        for i, (style, (width, height)) in enumerate(zip(styles, sizes, strict=True)):
            if width * height > self._limits.max_pixels:
                limit = f"{self._limits.max_pixels:,}"
                reason = f"makes a picture of {width}x{height}; this server takes at most {limit} pixels"
                check.add(f"styles[{i}].{'scale' if style.HasField('scale') else 'image'}", reason)
        together = sum(width * height for width, height in sizes)
        if together > (most := self._limits.max_request_pixels):
            check.add("styles", f"have {together:,} pixels after scaling; one request may have {most:,}")

    def _check_reply(
        self, width: int, height: int, layers: Sequence[str], manifest: Manifest, kind: str, check: Checker
    ) -> None:
        """Checks the size of the requested features: the front process holds the whole response in memory."""
        size = sum(
            4 * layer.channels * (layer.channels if kind == "gram" else _max_positions(width, height, layer.stride))
            for layer in manifest.layers
            if layer.name in layers
        )
        if size > (most := self._limits.max_features_bytes):
            check.add(
                "layers",
                f"would make {size / 2**20:,.0f} MiB of values from a picture of {width}x{height}, but "
                f"this server sends at most {most / 2**20:,.0f}; ask for fewer layers, matrices, or a smaller size",
            )


async def _with_regions(
    pictures: Sequence[StylePicture],
    job_images: "_JobImages",
    canvas: tuple[int, int],
    images: RequestImages,
    check: Checker,
    *,
    keep: bool,
) -> tuple[StylePicture, ...]:
    """Returns a style for each pair of regions in one color: one of the canvas's map, and one of a style's map."""

    async def regions(image: RequestImage | None, size: tuple[int, int]) -> Regions:
        assert image is not None
        return await images.regions(image, *size, check)

    def mask(image: RequestImage | None, size: tuple[int, int], found: Regions, number: int) -> Mask:
        sha256 = image.header.sha256 if image is not None and image.header is not None else ""
        return Mask(*size, b"", sha256, found.blob, found.warning, found.regions[number].color, number)

    whole = await regions(job_images.canvas_map, canvas)
    sizes = [(style.picture.width, style.picture.height) for style in pictures]
    maps = [await regions(image, size) for image, size in zip(job_images.maps, sizes, strict=True)]
    check.stop_if_wrong()
    return tuple(
        replace(
            pictures[pair.style],
            share=pair.share,
            mask=mask(job_images.canvas_map, canvas, whole, pair.region),
            source_mask=mask(job_images.maps[pair.style], sizes[pair.style], maps[pair.style], pair.source),
        )
        for pair in match_regions(whole, maps, [style.share for style in pictures], check, keep=keep)
    )


class _JobImages:
    """The images of a job: content, styles, their masks and maps, the map of the canvas, and the initial image."""

    def __init__(
        self,
        content: options_pb2.InputImage | None,
        styles: Sequence[options_pb2.StyleSource],
        start: options_pb2.InputImage | None,
        canvas_map: options_pb2.InputImage | None,
    ) -> None:
        def mask(
            number: int, style: options_pb2.StyleSource, name: Literal["mask", "source_mask", "source_map"]
        ) -> RequestImage | None:
            return RequestImage(getattr(style, name), f"styles[{number}].{name}") if style.HasField(name) else None

        self.content = None if content is None else RequestImage(content, "content")
        self.styles = [RequestImage(style.image, f"styles[{i}].image") for i, style in enumerate(styles)]
        self.masks = [mask(i, style, "mask") for i, style in enumerate(styles)]
        self.source_masks = [mask(i, style, "source_mask") for i, style in enumerate(styles)]
        self.maps = [mask(i, style, "source_map") for i, style in enumerate(styles)]
        self.canvas_map = None if canvas_map is None else RequestImage(canvas_map, CANVAS_MAP)
        self.start = None if start is None else RequestImage(start, "options.init_image")

    @property
    def aspect(self) -> RequestImage:
        """The image that determines the canvas's aspect ratio."""
        return self.content or self.canvas_map or self.styles[0]

    def all(self) -> list[RequestImage]:
        """Returns all images of the job."""
        own = (*self.styles, *self.masks, *self.source_masks, *self.maps)
        found = (self.content, *own, self.canvas_map, self.start)
        return [image for image in found if image is not None]

    def map_field(self, sha256: str) -> str:
        """Returns the path of the first style's map with this SHA-256 in the request."""
        maps = [own for own in self.maps if own is not None and own.header is not None and own.header.sha256 == sha256]
        return maps[0].field

    def check_maps(self, check: Checker) -> None:
        """Checks that each map has the shape of its picture."""
        pairs = [*zip(self.maps, self.styles, strict=True), (self.canvas_map, self.content)]
        for own, picture in pairs:
            if own is None or picture is None or own.header is None or picture.header is None:
                continue
            first, second = own.header, picture.header
            if abs(math.log(first.width * second.height / (first.height * second.width))) > _SHAPE_TOLERANCE:
                reason = f"is {first.width}x{first.height}, but {picture.field} is {second.width}x{second.height}"
                check.add(own.field, f"{reason}; a map has the shape of its picture")


_SHOWN_LAYERS = 50


def _read_layers(
    layers: Sequence[options_pb2.LayerWeight],
    field: str,
    default: Sequence[str],
    weight: float | None,
    manifest: Manifest,
    check: Checker,
    *,
    name_field: str = ".layer",
) -> tuple[LayerWeight, ...]:
    """Reads layers with their weights, and adds violations to `check`.

    Args:
        field: path of the layers in the request.
        default: names of the layers if the request has none.
        weight: weight of a layer that sets none; None for 1 / number of layers.
        name_field: path of a layer's name below the layer.
    """
    if not layers:
        layers = [options_pb2.LayerWeight(layer=name) for name in default]
    known = [layer.name for layer in manifest.layers]
    read: list[LayerWeight] = []
    for i, layer in enumerate(layers):
        name = layer.layer if layer.layer in known else canonical_layer(layer.layer)
        if name not in known:
            shown = ", ".join(known[:_SHOWN_LAYERS]) + (", and more" if len(known) > _SHOWN_LAYERS else "")
            usual = f"; the default is {', '.join(default)}"
            reason = f"is {layer.layer!r}, but the model {manifest.name} has the layers {shown}{usual}"
            check.add(f"{field}[{i}]{name_field}", reason)
        elif name in (w.layer for w in read):
            check.add(f"{field}[{i}]{name_field}", f"is {layer.layer!r} again; name each layer once")
        unset = 1 / len(layers) if weight is None else weight
        given = read_field(layer, "weight", check, prefix=f"{field}[{i}].")
        read.append(LayerWeight(name, unset if given is None else given))
    if not any(w.weight for w in read):
        check.add(field, "have weights that are all 0, which leaves nothing to optimize")
    return tuple(read)


async def _check_visible(spec: JobSpec, job_images: "_JobImages", images: RequestImages, check: Checker) -> None:
    """Checks that each mask, and each region of a style's map, selects visible pixels."""
    for i, style in enumerate(spec.styles):
        mask, source = style.mask, style.source_mask
        if mask is not None and not mask.color and not await images.has_visible(spec.content, mask):
            reason = "selects only transparent pixels of the content; paint a visible region white"
            check.add(f"styles[{i}].mask", reason)
        if source is None or await images.has_visible(style.picture, source):
            continue
        if source.color:
            reason = f"has the color {source.color} only where its picture is transparent; draw it on visible pixels"
            check.add(job_images.map_field(source.sha256), reason)
        else:
            reason = "selects only transparent pixels of its picture; paint a visible region white"
            check.add(f"styles[{i}].source_mask", reason)


def _check_masks(styles: Sequence[options_pb2.StyleSource], check: Checker) -> None:
    for i, style in enumerate(styles):
        if not style.HasField("mask"):
            reason = "is missing, but options.outside is OUTSIDE_KEEP, which needs a mask for each style"
            check.add(f"styles[{i}].mask", reason)


def _check_maps(
    options: options_pb2.SynthesisOptions, styles: Sequence[options_pb2.StyleSource], kind: JobKind, check: Checker
) -> None:
    has_map = options.HasField("canvas_map")
    if has_map and kind == "content":
        check.add(CANVAS_MAP, "is set, but a content reconstruction has no styles to paint regions in")
    for i, style in enumerate(styles):
        if has_map and not style.HasField("source_map"):
            check.add(
                f"styles[{i}].source_map", f"is missing, but {CANVAS_MAP} is set, which needs a map for each style"
            )
        if style.HasField("source_map") and not has_map:
            check.add(
                f"styles[{i}].source_map",
                f"is a map, but {CANVAS_MAP}, which says where to paint its regions, is missing",
            )
        for name in ("mask", "source_mask"):
            if style.HasField("source_map") and style.HasField(name):
                check.add(f"styles[{i}].{name}", "is set, and so is its map; leave out one of the two")


def _check_styles(styles: Sequence[options_pb2.StyleSource], check: Checker) -> None:
    if not 1 <= len(styles) <= MAX_STYLES:
        check.add("styles", f"has {len(styles)} pictures, but must have 1 to {MAX_STYLES}")
        return
    weights = [read_field(s, "weight", check, prefix=f"styles[{i}].") for i, s in enumerate(styles)]
    if not any(weights):
        check.add("styles", "have weights that sum to 0; give at least one a weight greater than 0")
    for i, style in enumerate(styles):
        read_field(style, "scale", check, prefix=f"styles[{i}].")


def _shares(weights: Sequence[float]) -> list[float]:
    """Returns each weight divided by the sum of all, even if the sum exceeds the range of a float."""
    _, exponent = math.frexp(max(weights, default=0.0))
    # Scaling by a power of two is exact.
    small = [math.ldexp(weight, -exponent) for weight in weights]
    return [weight / sum(small) for weight in small]


def _default_tv_weight(
    default: float, content_weight: float, content_layers: Sequence[LayerWeight], style_weight: float, usual: float
) -> float:
    """Returns the default weight of the total variation for a job's weights.

    Args:
        default: the model's default weight, which assumes a content weight of 1.
        usual: style weight that belongs to a content weight of 1; used if the job has no content weight.
    """
    largest = content_weight * max((w.weight for w in content_layers), default=0.0)
    factor = largest if largest else style_weight / usual
    return min(default * factor, sys.float_info.max)


def _scaled_size(style: options_pb2.StyleSource, image: RequestImage, options: SynthesisOptions) -> tuple[int, int]:
    """Returns width and height in pixels to which a style's picture is scaled."""
    scale = style.scale if style.HasField("scale") else 1.0
    return image.fitted(max(1, round(options.size * scale)), options.fit)


def _size_that_wraps(size: tuple[int, int], options: SynthesisOptions, check: Checker) -> tuple[int, int]:
    """Returns width and height of the canvas with an even number of pixels along each axis that wraps.

    With an odd number, the 2x2 windows of the pooling would not fit together at the edges, which causes a visible seam.
    """
    vertical, horizontal = wraps_of(options)
    if options.size % 2 and any(
        side == options.size and wrap for side, wrap in zip(size, (horizontal, vertical), strict=True)
    ):
        nearest = f"use {options.size - 1} or {options.size + 1}"
        check.add(
            PREFIX + "size", f"is {options.size}, but a side that wraps needs an even number of pixels; {nearest}"
        )
    width, height = size
    return width + (width % 2 if horizontal else 0), height + (height % 2 if vertical else 0)


def _min_side(layers: Sequence[LayerWeight], manifest: Manifest) -> int:
    """Returns the smallest side of a picture, in pixels, for which all layers of the model have a position."""
    known = [layer.name for layer in manifest.layers]
    return manifest.min_side(layer.layer for layer in layers if layer.layer in known)


def _max_positions(width: int, height: int, stride: int) -> int:
    """Returns the most positions that a layer with that stride has; without padding it has fewer."""
    return (width // stride + 1) * (height // stride + 1)


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
    least, deepest = max((layer.min_side, layer.name) for layer in manifest.layers if layer.name in layers)
    if min(width, height) < least:
        check.add(field, f"{what} would be {width}x{height}, but {deepest} needs {least} pixels a side")
