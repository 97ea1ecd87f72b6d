"""The pixels that keep the content's colors: those outside all masks if the job asks for it, and transparent ones."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..engine.canvas import resized
from ..messages.spec import JobSpec, Picture
from .margin import PIXELS
from .pictures import canvas_of, raster, region, scaled_mask


class Outside:
    """Restores the content outside the masks of a job, and where the content is transparent.

    The optimization may change transparent pixels near visible ones, as in a margin: without that, the colors of the
    content would remain at the edges of what is visible. They are not in the result.

    Args:
        spec: a job with a content picture, whose transparent pixels are filled.
        own: the same content with its own colors in transparent pixels.
        device: device of the canvases.
    """

    def __init__(self, spec: JobSpec, own: Picture, device: torch.device) -> None:
        assert spec.content is not None
        self._content = canvas_of(spec.content).to(device)
        self._own = canvas_of(own).to(device) if own.alpha else self._content
        free = _union_of_masks(spec) if spec.options.outside == "keep" else torch.ones(1, 1, spec.height, spec.width)
        self._visible: Tensor | None = None
        if own.alpha:
            visible = torch.from_numpy((raster(own)[..., 3] > 0).astype(np.float32))[None, None]
            free = free * F.max_pool2d(visible, 2 * PIXELS + 1, stride=1, padding=PIXELS)
            self._visible = visible.to(device)
        self._free = free.to(device)
        # Every update of a level restores pixels at the same size: resize only once.
        self._at: tuple[int, int] = (0, 0)
        self._kept_at = self._content_at = self._free

    def kept(self, height: int, width: int) -> Tensor:
        """Returns the pixels of a canvas of that size that are never changed, (1, 1, height, width), bool."""
        self._resize(height, width)
        return self._kept_at

    def restored(self, canvas: Tensor) -> Tensor:
        """Returns a canvas (N, 3, H, W) with the content's colors in all kept pixels."""
        self._resize(*canvas.shape[2:])
        return torch.where(self._kept_at, self._content_at, canvas)

    def blended(self, canvas: Tensor) -> Tensor:
        """Returns a canvas (N, 3, H, W) with the content's own colors, blended at the soft edges of masks."""
        painted = self._free if self._visible is None else self._free * self._visible
        height, width = canvas.shape[2:]
        return _resized(self._own, height, width).lerp(canvas, _resized(painted, height, width))

    def with_unseen(self, canvas: Tensor, hidden: Tensor) -> Tensor:
        """Returns a canvas (N, 3, H, W) of full size with the transparent pixels of another one."""
        return canvas if self._visible is None else canvas.where(self._visible > 0, hidden)

    def _resize(self, height: int, width: int) -> None:
        if self._at != (height, width):
            self._at = height, width
            self._kept_at = _resized(self._free, height, width) == 0
            self._content_at = _resized(self._content, height, width)


def _union_of_masks(spec: JobSpec) -> Tensor:
    masks = [scaled_mask(style.mask, spec.width, spec.height) for style in spec.styles if style.mask]
    return torch.from_numpy(np.maximum.reduce([region(mask) for mask in masks]))[None, None]


def _resized(values: Tensor, height: int, width: int) -> Tensor:
    """Returns values (1, C, H, W) resized to (1, C, height, width)."""
    return values if values.shape[2:] == (height, width) else resized(values, height, width)
