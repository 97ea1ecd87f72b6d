"""A margin that is painted with the canvas and cut off its picture, so that the picture has no frame.

What stands around a feature map draws a frame: zeros pull the outermost pixels to the gray that a zero stands for, and
a repeated edge gives them more say than the others have. Pixels that have others around them on all sides have neither.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ..messages.spec import JobSpec, LevelSpec, Mask, Picture
from .pictures import levels_of, pixels

# On each side. Measured with vgg19-slim and vgg19-caffe: what zeros do fades within six pixels.
PIXELS = 8


def with_margin(spec: JobSpec) -> JobSpec:
    """The job as it is painted: its canvas, and what lies on that, with the margin if it is to have one.

    Content, start and masks go on in the margin as their mirror image.
    """
    if spec.options.padding != "margin":
        return spec
    width, height = spec.width + 2 * PIXELS, spec.height + 2 * PIXELS
    styles = tuple(replace(style, mask=style.mask and _grown(style.mask)) for style in spec.styles)
    levels = tuple(
        LevelSpec(
            max(1, round(level.width * width / spec.width)),
            max(1, round(level.height * height / spec.height)),
            level.iterations,
        )
        for level in spec.levels
    )
    return replace(
        spec, width=width, height=height, levels=levels, styles=styles,
        content=spec.content and _grown(spec.content), init_image=spec.init_image and _grown(spec.init_image),
    )  # fmt: skip


def without_margin(picture: np.ndarray, asked: JobSpec) -> np.ndarray:
    """The part of a painted picture (H, W, 3), of any level, that the job asked for."""
    if asked.options.padding != "margin":
        return picture
    rows, columns = (
        _inside(painted, side) for painted, side in zip(picture.shape, (asked.height, asked.width), strict=False)
    )
    return np.ascontiguousarray(picture[rows, columns])


def _inside(painted: int, side: int) -> slice:
    cut = round(PIXELS * painted / (side + 2 * PIXELS))
    return slice(cut, painted - cut)


def _grown(part: Any) -> Any:
    """A picture or a mask with the margin; one whose pixels have not been read stays without them."""
    grown = replace(
        part,
        width=part.width + 2 * PIXELS,
        height=part.height + 2 * PIXELS,
        # What is remembered of a picture is remembered by its hash.
        sha256=f"{part.sha256} with a margin",
    )
    around = [(PIXELS, PIXELS), (PIXELS, PIXELS)]
    match part:
        case Picture() if part.rgb:
            return replace(grown, rgb=np.pad(pixels(part), [*around, (0, 0)], mode="reflect").tobytes())
        case Mask() if part.levels:
            return replace(grown, levels=np.pad(levels_of(part), around, mode="reflect").tobytes())
    return grown
