"""A margin around the canvas that is optimized with it and cropped from the result, which prevents a visible frame.

The padding of feature maps causes a frame: zeros pull the outermost pixels toward the gray that zero represents, and a
replicated edge gives the outermost pixels more weight than others. Pixels away from the edge have neither effect.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ..messages.spec import JobSpec, Mask, Picture
from .pictures import levels_of, raster

# Width of the margin on each side. Measured with vgg19-slim and vgg19-caffe: the effect of zeros fades within 6 pixels.
PIXELS = 8


def with_margin(spec: JobSpec) -> JobSpec:
    """Returns the job with the margin added to its canvas, content, initial picture and masks, if it has a margin.

    The margin of the content, the initial picture and the masks is their mirror image. An axis that wraps has none.
    """
    margins = _margins(spec)
    if not any(margins):
        return spec
    height, width = spec.height + 2 * margins[0], spec.width + 2 * margins[1]
    styles = tuple(replace(style, mask=style.mask and _mirrored(style.mask, margins)) for style in spec.styles)
    levels = tuple(
        replace(
            level,
            width=max(1, round(level.width * width / spec.width)),
            height=max(1, round(level.height * height / spec.height)),
        )
        for level in spec.levels
    )
    return replace(
        spec, width=width, height=height, levels=levels, styles=styles,
        content=spec.content and _mirrored(spec.content, margins),
        init_image=spec.init_image and _mirrored(spec.init_image, margins),
    )  # fmt: skip


def without_margin(picture: np.ndarray, asked: JobSpec) -> np.ndarray:
    """Returns a painted picture (H, W, 3), of any level, without the margin.

    Args:
        picture: the picture with its margin, if it has one.
        asked: the job before `with_margin`.
    """
    margins = _margins(asked)
    if not any(margins):
        return picture
    sides = asked.height, asked.width
    rows, columns = map(_inside, picture.shape[:2], sides, margins)
    return np.ascontiguousarray(picture[rows, columns])


def _margins(spec: JobSpec) -> tuple[int, int]:
    """Returns the width of the margin along the vertical and along the horizontal axis."""
    if spec.options.padding not in ("margin", "circular"):
        return 0, 0
    vertical, horizontal = (0 if wrap else PIXELS for wrap in spec.wraps)
    return vertical, horizontal


def _inside(painted: int, side: int, margin: int) -> slice:
    cut = round(margin * painted / (side + 2 * margin))
    return slice(cut, painted - cut)


def _mirrored(part: Any, margins: tuple[int, int]) -> Any:
    """Returns a picture or a mask with the margin; if its pixels have not been read, only its size changes."""
    vertical, horizontal = margins
    grown = replace(
        part,
        width=part.width + 2 * horizontal,
        height=part.height + 2 * vertical,
        # The hash is the key of the cached targets: the picture with a margin needs another one.
        sha256=f"{part.sha256} with a margin of {horizontal}x{vertical}",
    )
    around = [(vertical, vertical), (horizontal, horizontal)]
    match part:
        case Picture() if part.rgb:
            return replace(grown, rgb=np.pad(raster(part), [*around, (0, 0)], mode="reflect").tobytes())
        case Mask() if part.levels:
            return replace(grown, levels=np.pad(levels_of(part), around, mode="reflect").tobytes())
    return grown
