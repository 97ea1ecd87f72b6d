"""The sliced Wasserstein loss of Heitz, Vanhoey, Chambon & Belcour (CVPR 2021): sorted projections of the features."""

import math
from collections.abc import MutableMapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from ..cost import Copies
from ..kernels.sorting import sort_rows
from .loss import Share, StyleLoss

# Directions per channel, as in the paper. Twice as many take twice as long, and are no better after the same time.
_DIRECTIONS = 1

# Operations in whose time one element is sorted, per level of the sort (measured on a CPU).
_SORT = 100.0


class SlicedWasserstein(StyleLoss):
    """The mean over directions v of 1/M Σ_k (p_(k) − q_(k))².

    p are the projections v·F of the features at the M positions of the canvas in ascending order, and q those of the
    style. The loss is 0 only if the two distributions of features are equal, whereas a Gram matrix compares only their
    second moments. The paper draws new directions at each step; here the directions are random but constant, because
    L-BFGS needs a constant loss. If the numbers of positions differ, or positions have weights, quantiles are compared.
    """

    name = "sliced_wasserstein"
    # The order of the projections depends on all positions.
    tiling = None
    # Saved: the order of the projections, and their difference from the target.
    copies = Copies(
        saved=2 * _DIRECTIONS, forward=_DIRECTIONS, backward=2 * _DIRECTIONS + 1, comparison=4 * _DIRECTIONS,
        target=_DIRECTIONS,
    )  # fmt: skip

    def describe(self, features: Tensor, share: Share) -> Tensor:
        """Returns the quantiles (N, D, M) of the projections at (k + ½) / M: without weights, sorted projections."""
        directions = _directions(features.shape[1], features.device, features.dtype)
        if not isinstance(share, Tensor):
            return sort_rows(directions @ features.flatten(2))[0]
        inside = _inside(share)
        values, order = sort_rows(directions @ features.flatten(2).index_select(2, inside))
        weights = share.flatten(1).index_select(1, inside).to(features.dtype)
        weights = (weights / weights.sum(1, keepdim=True)).unsqueeze(1).expand_as(values).gather(2, order.long())
        return _quantiles(values, weights)

    def operations(self, channels: int, positions: int, style_positions: int) -> float:
        """Returns those of the projections, of their gradient, and of sorting."""
        directions = _DIRECTIONS * channels
        return directions * positions * (4.0 * channels + _SORT * math.log2(positions + 1))

    def compare(self, statistic: Tensor, target: Tensor) -> Tensor:
        """Returns the loss (N,)."""
        if target.shape[2] != statistic.shape[2]:
            # Centers of the target's M positions to centers of the canvas's: (k + ½) / M of each.
            target = F.interpolate(target, size=statistic.shape[2], mode="linear", align_corners=False)
        return (statistic - target).square().mean((1, 2))

    def mixed(self, targets: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
        """Returns the barycenter of the styles: their quantiles, averaged."""
        count = max(target.shape[-1] for target in targets)
        grown = [F.interpolate(torch.from_numpy(t)[None], size=count, mode="linear")[0].numpy() for t in targets]
        return super().mixed(grown, shares)


_known: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()


def _inside(share: Tensor) -> Tensor:
    """Returns the places (K,) of the positions with a weight > 0.

    They are found once for each tensor of weights, because finding them makes the host wait for a GPU.
    """
    if share not in _known:
        _known[share] = share[0].flatten().cpu().nonzero().flatten().to(share.device)
    return _known[share]


@cache
def _directions(channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns random unit vectors (D, C), the same for each number of channels."""
    generator = torch.Generator().manual_seed(channels)
    directions = torch.randn(_DIRECTIONS * channels, channels, dtype=torch.float64, generator=generator)
    return F.normalize(directions, dim=1).to(device, dtype)


def _quantiles(values: Tensor, weights: Tensor) -> Tensor:
    """Returns the quantiles at (k + ½) / M of M ascending values (N, D, M) with the given weights, which sum to 1.

    The quantile function is linear between the centers of the weights.
    """
    count = values.shape[2]
    centers = (weights.cumsum(2) - weights / 2).contiguous()
    at = ((torch.arange(count, device=values.device) + 0.5) / count).to(values).expand_as(values).contiguous()
    high = torch.searchsorted(centers, at).clamp(1, count - 1) if count > 1 else torch.zeros_like(at, dtype=torch.long)
    low = (high - 1).clamp_min(0)
    width = (centers.gather(2, high) - centers.gather(2, low)).clamp_min(1e-12)
    part = ((at - centers.gather(2, low)) / width).clamp(0, 1)
    return values.gather(2, low).lerp(values.gather(2, high), part)
