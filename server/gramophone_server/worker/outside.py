"""The pixels outside all masks, which keep the content's colors if the job asks for it."""

import numpy as np
import torch
from torch import Tensor

from ..engine.canvas import resized
from ..messages.spec import JobSpec
from .pictures import canvas_of, region, scaled_mask


class Outside:
    """Restores the content outside the masks of a job.

    Args:
        spec: a job with a content picture, and with a mask for each style.
        device: device of the canvases.
    """

    def __init__(self, spec: JobSpec, device: torch.device) -> None:
        assert spec.content is not None
        self._content = canvas_of(spec.content).to(device)
        masks = [scaled_mask(style.mask, spec.width, spec.height) for style in spec.styles if style.mask]
        inside = np.maximum.reduce([region(mask) for mask in masks])
        self._inside = torch.from_numpy(inside)[None, None].to(device)

    def kept(self, height: int, width: int) -> Tensor:
        """Returns the pixels of a canvas of that size that keep the content's colors, (1, 1, height, width), bool."""
        inside = self._inside
        if inside.shape[2:] != (height, width):
            inside = resized(inside, height, width)
        return inside == 0

    def restored(self, canvas: Tensor) -> Tensor:
        """Returns a canvas (N, 3, H, W) with the content's colors in all kept pixels."""
        return torch.where(self.kept(*canvas.shape[2:]), self._resized_content(canvas), canvas)

    def blended(self, canvas: Tensor) -> Tensor:
        """Returns a canvas (N, 3, H, W) blended with the content at the soft edges of the masks, too."""
        inside = self._inside
        if inside.shape[2:] != canvas.shape[2:]:
            inside = resized(inside, *canvas.shape[2:])
        return self._resized_content(canvas).lerp(canvas, inside)

    def _resized_content(self, canvas: Tensor) -> Tensor:
        if self._content.shape[2:] == canvas.shape[2:]:
            return self._content
        return resized(self._content, *canvas.shape[2:])
