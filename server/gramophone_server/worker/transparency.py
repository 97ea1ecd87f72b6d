"""Transparent parts of pictures: their colors, and their masks.

The network takes no alpha, so transparent pixels get the colors of the visible pixels around them. A picture then has
no artificial edge where it becomes transparent, and the hidden colors of its file have no effect.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..engine import canvas as canvases
from ..messages.spec import JobSpec, Mask, Picture, StylePicture
from .pictures import canvas_of, levels_of, raster, with_colors

# Alpha in levels from which a pixel's own color is exact enough: some files store the product of color and alpha in 8
# bits, from which the color of a nearly transparent pixel cannot be recovered.
_EXACT = 32


def with_filled_pictures(spec: JobSpec) -> JobSpec:
    """Returns the job with the transparent pixels of its pictures filled; the pictures keep their alpha."""
    styles = tuple(replace(style, picture=filled(style.picture)) for style in spec.styles)
    return replace(spec, content=spec.content and filled(spec.content), styles=styles)


def filled(picture: Picture) -> Picture:
    """Returns a picture whose transparent pixels have the colors of the visible pixels around them."""
    if not picture.alpha:
        return picture
    alpha = torch.from_numpy(raster(picture)[..., 3].astype(np.float32))[None, None]
    colors = canvases.to_pictures(_spread(canvas_of(picture), (alpha / _EXACT).clamp(max=1)))[0]
    # The hash is the key of cached targets, and the same file composited over white has other pixels.
    return replace(with_colors(picture, colors), sha256=f"{picture.sha256} filled")


def visible_part(picture: Picture | None) -> Mask | None:
    """Returns the alpha of a picture as a mask; None for an opaque picture, and for none."""
    if picture is None or not picture.alpha:
        return None
    levels = raster(picture)[..., 3].tobytes()
    return Mask(picture.width, picture.height, levels, f"alpha of {picture.sha256}")


def visible_source(style: StylePicture) -> Mask | None:
    """Returns the region of a style's picture that the style is taken from: the visible part of its source mask."""
    return both(style.source_mask, visible_part(style.picture))


def both(mask: Mask | None, other: Mask | None) -> Mask | None:
    """Returns the intersection of two masks of one size: their product. None stands for everywhere."""
    if mask is None or other is None:
        return mask or other
    levels = (levels_of(mask).astype(np.uint16) * levels_of(other) + 127) // 255
    return replace(mask, levels=levels.astype(np.uint8).tobytes(), sha256=f"{mask.key} and {other.key}", color="")


def _spread(colors: Tensor, weight: Tensor) -> Tensor:
    """Returns colors (1, 3, H, W) with those of small weight replaced by the weighted average of their neighborhood.

    This is the pull-push algorithm (Gortler, Grzeszczuk, Szeliski & Cohen, SIGGRAPH 1996, "The Lumigraph", section
    3.4): averages at ever coarser sizes fill the gaps of the finer ones.

    Args:
        weight: (1, 1, H, W), 0 to 1, not 0 everywhere.
    """
    height, width = colors.shape[2:]
    if height == width == 1 or bool((weight == 1).all()):
        return colors
    covered = F.avg_pool2d(weight, 2, ceil_mode=True)
    averages = F.avg_pool2d(colors * weight, 2, ceil_mode=True) / covered.clamp_min(torch.finfo(covered.dtype).tiny)
    coarse = _spread(averages, (4 * covered).clamp(max=1))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False).lerp(colors, weight)
