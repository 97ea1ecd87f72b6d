"""Pictures of a spec as arrays, at other sizes, and in other colors."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from ..engine import canvas as canvases
from ..engine import color
from ..messages.options import ColorMode
from ..messages.spec import Mask, Picture, StylePicture

_MATCH: dict[ColorMode, Callable[[Tensor, Tensor], Tensor]] = {
    "luminance": color.match_luminance,
    "match": color.match_covariance,
    "histogram": color.match_histogram,
}


def pixels(picture: Picture) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3)."""
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)


def levels_of(mask: Mask) -> np.ndarray:
    """A mask as uint8 (H, W), 0 outside to 255 inside."""
    return np.frombuffer(mask.levels, np.uint8).reshape(mask.height, mask.width)


def region(mask: Mask) -> np.ndarray:
    """A mask as float32 (H, W) of 0 to 1."""
    return levels_of(mask).astype(np.float32) / 255


def canvas_of(picture: Picture) -> Tensor:
    """A picture as a canvas (1, 3, H, W)."""
    return canvases.from_pictures([pixels(picture)])


def picture_of(canvas: Tensor) -> Picture:
    """A canvas (1, 3, H, W) as a picture, named by its pixels."""
    array = canvases.to_pictures(canvas)[0]
    rgb = array.tobytes()
    return Picture(array.shape[1], array.shape[0], rgb, hashlib.sha256(rgb).hexdigest())


def scaled(picture: Picture, width: int, height: int) -> Picture:
    """A picture squeezed to width x height, averaging over all pixels that fall into one."""
    if (picture.width, picture.height) == (width, height):
        return picture
    image = Image.fromarray(pixels(picture)).resize((width, height), Image.Resampling.BILINEAR)
    return replace(picture, width=width, height=height, rgb=image.tobytes())


def scaled_style(style: StylePicture, factor: float, least: int) -> StylePicture:
    """A style at `factor` times its size, no side shorter than `least`; its masks are scaled with the features."""
    width, height = (max(least, round(side * factor)) for side in (style.picture.width, style.picture.height))
    source = style.source_mask and scaled_mask(style.source_mask, width, height)
    return replace(style, picture=scaled(style.picture, width, height), source_mask=source)


def scaled_mask(mask: Mask, width: int, height: int) -> Mask:
    """A mask squeezed to width x height."""
    if (mask.width, mask.height) == (width, height):
        return mask
    image = Image.frombytes("L", (mask.width, mask.height), mask.levels)
    levels = image.resize((width, height), Image.Resampling.BOX).tobytes()
    return replace(mask, width=width, height=height, levels=levels)


def in_content_colors(style: StylePicture, content: Picture, how: ColorMode) -> StylePicture:
    """A style in the content's colors."""
    if how == "style":
        return style
    matched = _MATCH[how](canvas_of(style.picture), canvas_of(content))
    return replace(style, picture=picture_of(matched))


def in_gray(picture: Picture) -> Picture:
    """A picture without its colors."""
    return picture_of(color.gray(canvas_of(picture)))
