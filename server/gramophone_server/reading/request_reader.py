"""Turns a request into a JobSpec, with all checks that a job must pass before it is accepted."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gramophone.v1 import model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb

from ..messages.options import JobKind, SynthesisOptions
from ..messages.pyramid import levels_of
from ..messages.spec import JobSpec, LayerWeight, LevelSpec, Mask, Picture, StyleLayer, StylePicture, wraps_of
from ..models.layers import LossScaleName, PoolingName
from ..models.manifest import Manifest
from ..models.store import BUILTIN_MODEL, ModelStore, UnknownModelError
from ..rpc.violations import Checker, InvalidRequestError, NotFoundError
from ..settings import Limits
from .job_images import JobImages, check_maps, check_masks, check_visible, with_regions
from .layers import check_size, max_positions, read_layers
from .options import PREFIX, read_options
from .request_images import RequestImage, RequestImages
from .rules import read_field
from .style_losses import default_loss_scale, layers_of, losses_of
from .warm_start import warm_start

MAX_STYLES = 16
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
        read = read_layers(layers, "layers", manifest.style_layers, 1.0, manifest, check, name_field="")
        names = tuple(w.layer for w in read)
        size = read_field(request, "size", check)
        kind = read_field(request, "kind", check)
        pooling: PoolingName = read_field(request, "pooling", check) or manifest.pooling
        image = RequestImage(request.image, "image")
        await images.open([image], check)
        check.stop_if_wrong()
        assert image.header is not None
        width, height = image.fitted(size, "longest_side") if size else (image.header.width, image.header.height)
        check_size(width, height, names, manifest, "image", check)
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
            read_content_layers = read_layers(content_layers, "content_layers", usual, 1.0, manifest, check)
        if kind != "content":
            given = read_layers(style_layers, "style_layers", (), None, manifest, check) if style_layers else ()
            read_style_layers = layers_of(losses_of(read), given, manifest.style_layers)
            _check_styles(styles, check)
            if read.outside == "keep" and not options.HasField("canvas_map"):
                check_masks(styles, check)
        layers = [w.layer for w in (*read_content_layers, *read_style_layers) if w.layer]
        small = self._models.get(BUILTIN_MODEL).manifest
        read = replace(read, warm_start=warm_start(read, kind, layers, small, check, PREFIX))
        check_maps(options, styles, kind, check)
        if kind == "style" and options.HasField("canvas_map") and not options.fit:
            read = replace(read, fit="longest_side")
        if not options.HasField("tv_weight"):
            tv_weight = _default_tv_weight(
                read.tv_weight, content_weight, read_content_layers, style_weight, STYLE_WEIGHT[read.loss_scale]
            )
            read = replace(read, tv_weight=tv_weight)
        check.stop_if_wrong()

        canvas_map = options.canvas_map if options.HasField("canvas_map") else None
        job_images = JobImages(content, styles, options.init_image if read.init == "image" else None, canvas_map)
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
        check_size(width, height, layers, manifest, "options.size", check, what="the canvas")
        for i, size in enumerate(sizes):
            check_size(*size, style_names, manifest, f"styles[{i}].image", check)
        check.stop_if_wrong()

        async def picture(image: RequestImage | None, *, alpha: bool = False) -> Picture | None:
            return None if image is None else await images.picture(image, width, height, check, alpha=alpha)

        levels = _levels(kind, read, (width, height), layers, manifest, small)
        read = replace(read, warm_start=any(level.model for level in levels))
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
            levels=levels,
            options=read,
        )
        check.stop_if_wrong()
        await check_visible(spec, job_images, images, check)
        check.stop_if_wrong()
        return spec

    async def _styles(
        self,
        styles: Sequence[options_pb2.StyleSource],
        job_images: JobImages,
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
        return await with_regions(pictures, job_images, canvas, images, check, keep=options.outside == "keep")

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
            4 * layer.channels * (layer.channels if kind == "gram" else max_positions(width, height, layer.stride))
            for layer in manifest.layers
            if layer.name in layers
        )
        if size > (most := self._limits.max_features_bytes):
            check.add(
                "layers",
                f"would make {size / 2**20:,.0f} MiB of values from a picture of {width}x{height}, but "
                f"this server sends at most {most / 2**20:,.0f}; ask for fewer layers, matrices, or a smaller size",
            )


def _levels(
    kind: JobKind,
    options: SynthesisOptions,
    size: tuple[int, int],
    layers: Sequence[str],
    manifest: Manifest,
    small: Manifest,
) -> tuple[LevelSpec, ...]:
    """Returns the levels of a job; it has no warm start if its canvas is too small for the small model."""
    warm = options.warm_start and min(size) >= small.min_side(layers)
    used = [manifest, small] if warm else [manifest]
    return levels_of(
        kind,
        options.optimizer,
        size,
        options.iterations,
        number=options.scales,
        min_side=max(model.min_side(layers) for model in used),
        multiple=max(model.layer(layer).stride for layer in layers for model in used),
        wraps=wraps_of(options),
        warm=small.name if warm else "",
    )


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
