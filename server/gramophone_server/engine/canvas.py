"""Canvases: their initial values, resizing, and conversion from and to integer pictures."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .tiling import FLAT, Wraps


def noise(seeds: Sequence[int], height: int, width: int, *, deviation: float = 0.15) -> Tensor:
    """Returns canvases of Gaussian noise around mid-gray, clipped to 0 to 1.

    The noise is drawn on the CPU, so every device starts from the same canvas. A start near gray needs only a fraction
    of the iterations that uniform noise needs to reach a given loss: the optimizer must first remove strong noise.

    Args:
        seeds: one seed for each of the N canvases.
        height, width: size of the canvases in pixels.
        deviation: standard deviation of the noise, for a pixel range of 0 to 1.

    Returns:
        (N, 3, height, width), float32, on the CPU.
    """
    canvases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        canvases.append(torch.randn(3, height, width, generator=generator))
    return (0.5 + deviation * torch.stack(canvases)).clamp_(0, 1)


def colored_noise(seeds: Sequence[int], height: int, width: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """Returns canvases of Gaussian noise with the given color statistics, clipped to 0 to 1.

    Args:
        seeds: one seed for each of the N canvases.
        height, width: size of the canvases in pixels.
        mean: (3,) mean RGB color, 0 to 1.
        covariance: (3, 3) covariance of the RGB channels.

    Returns:
        (N, 3, height, width), float32, on the CPU.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt()).float()
    canvases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn(3, height, width, generator=generator)
        canvases.append(torch.einsum("ij,jhw->ihw", root, draws) + mean.float().view(3, 1, 1))
    return torch.stack(canvases).clamp_(0, 1)


def fine_detail(seeds: Sequence[int], height: int, width: int, *, deviation: float, wraps: Wraps = FLAT) -> Tensor:
    """Returns zero-mean noise without the low frequencies that a canvas of half the size can hold.

    Args:
        seeds: one seed for each of the N canvases.
        height, width: size of the noise in pixels.
        deviation: standard deviation of the noise before the low frequencies are removed, for a pixel range of 0 to 1.
        wraps: the axes along which opposite edges are neighbors.

    Returns:
        (N, 3, height, width), float32, on the CPU.
    """
    # Derive other seeds, so that this noise differs from the noise of the initial canvas.
    fresh = [seed + (1 << 62) + height for seed in seeds]
    draws = torch.stack(
        [torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed % 2**63)) for seed in fresh]
    )
    coarse = resized(draws, max(1, height // 2), max(1, width // 2), wraps)
    return deviation * (draws - resized(coarse, height, width, wraps))


def resized(values: Tensor, height: int, width: int, wraps: Wraps = FLAT) -> Tensor:
    """Returns values (N, C, H, W) resized to (N, C, height, width) by antialiased bilinear interpolation.

    The result stays within the range of the input. Along axes that wrap, it is one copy of the resized repetition.
    """
    for axis, size in ((2, height), (3, width)):
        if wraps[axis - 2]:
            values = _resized_circle(values, axis, size)
    return F.interpolate(values, (height, width), mode="bilinear", align_corners=False, antialias=True)


def _resized_circle(values: Tensor, axis: int, size: int) -> Tensor:
    """Returns values (N, C, H, W) resized along one axis, whose ends are neighbors, to `size` positions."""
    length = values.shape[axis]
    if length == size:
        return values
    scale = length / size
    # The triangle filter that F.interpolate uses: as wide as a position of the larger grid, on either side.
    reach = max(scale, 1.0)
    centers = (torch.arange(size, dtype=torch.float64) + 0.5) * scale - 0.5
    near = torch.stack([(centers - reach).ceil() + tap for tap in range(math.floor(2 * reach) + 1)])
    weights = (1 - (near - centers).abs() / reach).clamp_min(0)
    weights = (weights / weights.sum(0)).to(values)
    sources = near.long().remainder(length).to(values.device)
    shape = (-1, 1) if axis == 2 else (-1,)
    return sum(
        (
            values.index_select(axis, source) * weight.view(shape)
            for source, weight in zip(sources, weights, strict=True)
        ),
        start=torch.zeros((), dtype=values.dtype, device=values.device),
    )


def from_pictures(pictures: Sequence[np.ndarray]) -> Tensor:
    """Returns a canvas (N, 3, H, W), float32, 0 to 1, from N uint8 or uint16 RGB pictures (H, W, 3) of one size."""
    stacked = np.stack(pictures)
    highest = np.iinfo(stacked.dtype).max
    return torch.from_numpy(stacked.astype(np.float32)).div_(highest).permute(0, 3, 1, 2)


def to_pictures(canvas: Tensor, *, bit_depth: int = 8) -> np.ndarray:
    """Returns the RGB pictures of a canvas (N, 3, H, W) with values of 0 to 1.

    Args:
        bit_depth: bits per channel, 8 or 16.

    Returns:
        (N, H, W, 3), uint8 or uint16.
    """
    pictures: np.ndarray = to_levels(canvas, bit_depth=bit_depth).cpu().numpy()
    return pictures.astype(np.uint16) if bit_depth > 8 else pictures


def to_levels(canvas: Tensor, *, bit_depth: int = 8) -> Tensor:
    """Returns the RGB pictures of a canvas (N, 3, H, W) on its device; the only place that rounds pixels.

    Args:
        bit_depth: bits per channel, 8 or 16.

    Returns:
        (N, H, W, 3), uint8, or int32 with 16 bits.
    """
    levels = canvas.clamp(0, 1).mul_((1 << bit_depth) - 1).round_()
    return levels.to(torch.int32 if bit_depth > 8 else torch.uint8).permute(0, 2, 3, 1).contiguous()
