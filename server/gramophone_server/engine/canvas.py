"""Canvases: where they start and how they become pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def noise(seeds: Sequence[int], height: int, width: int, *, deviation: float = 0.15) -> Tensor:
    """Gaussian noise around mid-grey, (N, 3, height, width) of 0 to 1, float32 on the CPU; number n from seeds[n].

    Drawn on the CPU so that every device starts from the same canvas. A start near grey reaches a given loss in a
    fraction of the iterations that uniform noise needs, which has to be removed before anything is painted.

    Args:
        deviation: of the noise, where the pixel range is 1.
    """
    canvases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        canvases.append(torch.randn(3, height, width, generator=generator))
    return (0.5 + deviation * torch.stack(canvases)).clamp_(0, 1)


def from_pictures(pictures: Sequence[np.ndarray]) -> Tensor:
    """A canvas (N, 3, H, W) of 0 to 1 from N uint8 RGB pictures (H, W, 3)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def to_pictures(canvas: Tensor) -> np.ndarray:
    """uint8 RGB pictures (N, H, W, 3) of a canvas (N, 3, H, W) of 0 to 1; rounded once, here."""
    levels = (canvas.clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
