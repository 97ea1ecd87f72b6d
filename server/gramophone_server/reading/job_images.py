"""The images of a job's request, and the checks of its masks and maps."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from gramophone.v1 import options_pb2

from ..decoding.messages import Regions
from ..messages.options import JobKind
from ..messages.spec import JobSpec, Mask, StylePicture
from ..rpc.violations import Checker
from .region_maps import CANVAS_MAP, match_regions
from .request_images import RequestImage, RequestImages

# Maximum difference of the aspect ratios of a map and its picture, which may be rounded to a few pixels.
_SHAPE_TOLERANCE = 0.03


class JobImages:
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


async def with_regions(
    pictures: Sequence[StylePicture],
    job_images: JobImages,
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


async def check_visible(spec: JobSpec, job_images: JobImages, images: RequestImages, check: Checker) -> None:
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


def check_masks(styles: Sequence[options_pb2.StyleSource], check: Checker) -> None:
    """Checks that each style has a mask, as `outside="keep"` needs."""
    for i, style in enumerate(styles):
        if not style.HasField("mask"):
            reason = "is missing, but options.outside is OUTSIDE_KEEP, which needs a mask for each style"
            check.add(f"styles[{i}].mask", reason)


def check_maps(
    options: options_pb2.SynthesisOptions, styles: Sequence[options_pb2.StyleSource], kind: JobKind, check: Checker
) -> None:
    """Checks that either the canvas and all styles have a map, or none of them."""
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
