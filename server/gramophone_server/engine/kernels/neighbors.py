"""Distances to nearest neighbors, by matrix products in chunks of bounded memory."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Bytes of a chunk of the matrix of similarities, which has as many elements as pairs of positions.
_CHUNK = 4 << 20


def neighbor_distance(features: Tensor, share: Tensor | float, style: Tensor) -> Tensor:
    """Returns the weighted sum of the cosine distances of vectors to their nearest neighbors among those of a style.

    Both are centered by the mean of the style's vectors.

    Args:
        features: (N, C, h, w), any floating type.
        share: weights of the positions, (1 or N, h, w), or one number for all.
        style: (1 or N, C, K), float32 or more, K vectors.

    Returns:
        (N,), in the type of `style`. Its gradient takes the choice of the neighbors as constant.
    """
    distance: Tensor = _NeighborDistance.apply(features, share, style)
    return distance


class _NeighborDistance(torch.autograd.Function):
    """Σ_k ρ_k (1 − û_k · v_k), with û_k = u_k / ‖u_k‖ for the centered vector u_k of position k and its neighbor v_k.

    The gradient −ρ_k (v_k − (û_k · v_k) û_k) / ‖u_k‖ is computed beside the value, chunk by chunk. Autograd would keep
    several tensors of the features' size instead.
    """

    @staticmethod
    def forward(context: Any, features: Tensor, share: Tensor | float, style: Tensor) -> Tensor:
        mean = style.mean(2, keepdim=True)
        neighbors = F.normalize(style - mean, dim=1)
        rows = features.permute(0, 2, 3, 1).flatten(1, 2)
        slopes = torch.empty_like(rows) if context.needs_input_grad[0] else None
        total = style.new_zeros(len(rows))
        size = max(1, _CHUNK // (style.element_size() * style.shape[2]))
        for n in range(len(rows)):
            own = min(n, len(style) - 1)
            weights = share[min(n, len(share) - 1)].flatten().to(style.dtype) if isinstance(share, Tensor) else share
            for begin in range(0, rows.shape[1], size):
                part = slice(begin, begin + size)
                centered = rows[n, part].to(style.dtype) - mean[own, :, 0]
                similarity, slope = _matched(centered, neighbors[own])
                weight = weights[part] if isinstance(weights, Tensor) else weights
                total[n] += ((1 - similarity) * weight).sum()
                if slopes is not None:
                    slopes[n, part] = slope.mul_(weight.unsqueeze(1) if isinstance(weight, Tensor) else weight)
        if slopes is not None:
            context.save_for_backward(slopes)
            context.size = features.shape[2:]
        return total

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = context.saved_tensors
        gradient = slopes * grad_output.to(slopes.dtype).view(-1, 1, 1)
        return gradient.unflatten(1, context.size).permute(0, 3, 1, 2), None, None


def _matched(centered: Tensor, neighbors: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the cosine similarities (M,) of vectors (M, C) and the nearest unit vectors of (C, K), and a gradient.

    The gradient (M, C) is that of 1 − similarity with respect to the vectors.
    """
    lengths = centered.norm(dim=1, keepdim=True).clamp_min(1e-12)
    units = centered / lengths
    nearest = (units @ neighbors).argmax(1)
    matched = neighbors[:, nearest].T
    similarity = (units * matched).sum(1, keepdim=True)
    return similarity[:, 0], (units * similarity - matched) / lengths
