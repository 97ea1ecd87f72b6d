"""Conversion of a job's pictures and masks to arrays and canvases, to other sizes, and to other colors."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from ..engine import canvas as canvases
from ..engine import color
from ..engine.tiling import FLAT, Wraps
from ..messages.options import ColorMode
from ..messages.spec import Mask, Picture, StylePicture

# Maximum difference of the channels of a gray picture, in levels.
_GRAY = 2
_MATCH: dict[ColorMode, Callable[[Tensor, Tensor], Tensor]] = {
    "luminance": color.match_luminance,
    "match": color.match_covariance,
    "histogram": color.match_histogram,
}


def raster(picture: Picture) -> np.ndarray:
    """Returns a picture as uint8 RGB (H, W, 3), or RGBA (H, W, 4) if it has alpha."""
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, picture.channels)


def pixels(picture: Picture) -> np.ndarray:
    """Returns the colors of a picture as uint8 RGB (H, W, 3)."""
    return np.ascontiguousarray(raster(picture)[..., :3])


def levels_of(mask: Mask) -> np.ndarray:
    """Returns a mask as uint8 (H, W), from 0 (outside) to 255 (inside)."""
    return np.frombuffer(mask.levels, np.uint8).reshape(mask.height, mask.width)


def region(mask: Mask) -> np.ndarray:
    """Returns a mask as float32 (H, W), 0 to 1."""
    return levels_of(mask).astype(np.float32) / 255


def canvas_of(picture: Picture) -> Tensor:
    """Returns a picture as a canvas (1, 3, H, W), float32, 0 to 1."""
    return canvases.from_pictures([pixels(picture)])


def with_colors(picture: Picture, colors: np.ndarray) -> Picture:
    """Returns a picture with other colors, uint8 RGB (H, W, 3), and the same alpha; its hash is that of its pixels."""
    rgb = np.dstack([colors, raster(picture)[..., 3:]]).tobytes()
    return replace(picture, rgb=rgb, sha256=hashlib.sha256(rgb).hexdigest())


def scaled(picture: Picture, width: int, height: int, wraps: Wraps = FLAT) -> Picture:
    """Returns a picture resized to width x height pixels by antialiased bilinear interpolation.

    Args:
        wraps: the axes along which opposite edges of the picture are neighbors.
    """
    if (picture.width, picture.height) == (width, height):
        return picture
    if any(wraps):
        image = Image.fromarray(canvases.to_pictures(canvases.resized(canvas_of(picture), height, width, wraps))[0])
    else:
        image = Image.fromarray(pixels(picture)).resize((width, height), Image.Resampling.BILINEAR)
    if picture.alpha:
        image.putalpha(Image.fromarray(raster(picture)[..., 3]).resize((width, height), Image.Resampling.BILINEAR))
    return replace(picture, width=width, height=height, rgb=image.tobytes())


def scaled_style(style: StylePicture, factor: float, least: int) -> StylePicture:
    """Returns a style with its picture and source mask scaled by `factor`, with sides of at least `least` pixels.

    The mask of the canvas keeps its size: it is resized to the feature maps.
    """
    width, height = (max(least, round(side * factor)) for side in (style.picture.width, style.picture.height))
    source = style.source_mask and scaled_mask(style.source_mask, width, height)
    return replace(style, picture=scaled(style.picture, width, height), source_mask=source)


def scaled_mask(mask: Mask, width: int, height: int) -> Mask:
    """Returns a mask resized to width x height pixels."""
    if (mask.width, mask.height) == (width, height):
        return mask
    image = Image.frombytes("L", (mask.width, mask.height), mask.levels)
    levels = image.resize((width, height), Image.Resampling.BOX).tobytes()
    return replace(mask, width=width, height=height, levels=levels)


def in_content_colors(style: StylePicture, content: Picture, how: ColorMode) -> StylePicture:
    """Returns a style recolored with the content's colors by the method `how`; "style" leaves it unchanged."""
    if how == "style":
        return style
    if is_gray(content):
        # A colored style would stay colored where its channels differ, even if each has the histogram of gray.
        style = replace(style, picture=in_gray(style.picture))
    matched = _MATCH[how](_visible_colors(style.picture), _visible_colors(content))
    return replace(style, picture=_with_visible_colors(style.picture, canvases.to_pictures(matched)[0]))


def _visible_colors(picture: Picture) -> Tensor:
    """Returns the colors of a picture as a canvas; those that are not fully transparent in one row if it has alpha."""
    if not picture.alpha:
        return canvas_of(picture)
    return canvases.from_pictures([pixels(picture)[raster(picture)[..., 3] > 0][None]])


def _with_visible_colors(picture: Picture, colors: np.ndarray) -> Picture:
    """Returns a picture with new colors in the order of `_visible_colors`; the others become their mean."""
    if not picture.alpha:
        return with_colors(picture, colors)
    changed = np.full_like(pixels(picture), colors.mean((0, 1)).round())
    changed[raster(picture)[..., 3] > 0] = colors[0]
    return with_colors(picture, changed)


def is_gray(picture: Picture) -> bool:
    """Returns whether a picture has no color: its channels differ by at most 2 levels, as in a JPEG of gray."""
    rgb = pixels(picture)
    return int(np.ptp(rgb, axis=2).max(initial=0)) <= _GRAY


def in_gray(picture: Picture) -> Picture:
    """Returns a picture in gray."""
    return with_colors(picture, canvases.to_pictures(color.gray(canvas_of(picture)))[0])
