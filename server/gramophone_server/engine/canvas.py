"""Canvases: where they start and how they become pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def noise(seeds: Sequence[int], height: int, width: int, *, deviation: float = 0.15) -> Tensor:
    """Gaussian noise around mid-gray, (N, 3, height, width) of 0 to 1, float32 on the CPU; number n from seeds[n].

    Drawn on the CPU so that every device starts from the same canvas. A start near gray reaches a given loss in a
    fraction of the iterations that uniform noise needs, which has to be removed before anything is painted.

    Args:
        deviation: of the noise, where the pixel range is 1.
    """
    canvases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        canvases.append(torch.randn(3, height, width, generator=generator))
    return (0.5 + deviation * torch.stack(canvases)).clamp_(0, 1)


def colored_noise(seeds: Sequence[int], height: int, width: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """Gaussian noise of that mean color (3,) and covariance (3, 3), (N, 3, height, width) of 0 to 1."""
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt()).float()
    canvases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn(3, height, width, generator=generator)
        canvases.append(torch.einsum("ij,jhw->ihw", root, draws) + mean.float().view(3, 1, 1))
    return torch.stack(canvases).clamp_(0, 1)


def fine_detail(seeds: Sequence[int], height: int, width: int, *, deviation: float) -> Tensor:
    """Noise around 0 with nothing in it that half the size could hold, (N, 3, height, width)."""
    # Other draws than those the canvas starts from.
    fresh = [seed + (1 << 62) + height for seed in seeds]
    draws = torch.stack(
        [torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in fresh]
    )
    coarse = resized(draws, max(1, height // 2), max(1, width // 2))
    return deviation * (draws - resized(coarse, height, width))


def resized(values: Tensor, height: int, width: int) -> Tensor:
    """Values (N, C, H, W) interpolated to another size; what is in a range stays in it."""
    return F.interpolate(values, (height, width), mode="bilinear", align_corners=False, antialias=True)


def from_pictures(pictures: Sequence[np.ndarray]) -> Tensor:
    """A canvas (N, 3, H, W) of 0 to 1 from N uint8 or uint16 RGB pictures (H, W, 3)."""
    stacked = np.stack(pictures)
    highest = np.iinfo(stacked.dtype).max
    return torch.from_numpy(stacked.astype(np.float32)).div_(highest).permute(0, 3, 1, 2)


def to_pictures(canvas: Tensor, *, bit_depth: int = 8) -> np.ndarray:
    """RGB pictures (N, H, W, 3) of a canvas (N, 3, H, W) of 0 to 1, uint8 or uint16; rounded once, here."""
    highest = (1 << bit_depth) - 1
    levels = canvas.clamp(0, 1).mul_(highest).round_()
    pictures = levels.to(torch.int32 if bit_depth > 8 else torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pictures.astype(np.uint16) if bit_depth > 8 else pictures
