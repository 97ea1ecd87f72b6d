"""Gram matrices of feature maps, with a backward pass that adds to the gradient it meets.

They are averaged over the M_l positions here, so that a canvas and a style picture of different sizes can be compared.
"""

from typing import Any

import torch
from torch import Tensor

from ..cost import GRAM_STRIP

Interior = tuple[slice, slice]
"""Rows and columns of a feature map."""


def gram_matrix(features: Tensor, share: Tensor | float | None = None) -> Tensor:
    """Equation 3, averaged: G_ij = Σ_k ρ_k F_ik F_jk, with ρ_k = 1 / M unless a `share` is given.

    Args:
        features: (N, C, H, W), any floating type.
        share: ρ, a number for all positions, or (1 or N, H, W). Shares that follow a mask give the guided Gram matrix
            of Gatys et al. 2017 ("Controlling Perceptual Factors in Neural Style Transfer", equation 4).

    Returns:
        (N, C, C), at least float32.
    """
    return tap_gram_matrix(features, share)[1]


def tap_gram_matrix(
    features: Tensor, share: Tensor | float | None = None, interior: Interior | None = None
) -> tuple[Tensor, Tensor]:
    """The features, and their `gram_matrix`, or that of an interior's.

    For a network to go on with. Backwards, the gradient that comes from there is added to by the product that makes the
    Gram matrix's: nothing of the features' size is made for it, and nothing waits for its turn.

    Args:
        interior: rows and columns of the positions that count; `share` is theirs, and by default 1 / their number.
    """
    if share is None:
        inside = _inside(features, interior)
        share = 1 / (inside.shape[1] * inside.shape[2])
    same: Tensor
    gram: Tensor
    same, gram = _Gram.apply(features, share, interior)
    return same, gram


class _Gram(torch.autograd.Function):
    """V and G = VᵀρV, of V (N, M, C) in the layout of features (N, C, H, W); the product is summed in float32.

    Autograd would go back through both factors; as G is symmetric, and so is the slope D of whatever treats G_ij and
    G_ji alike, one product, in the features' own precision, does: ∂L/∂V = 2 ρ V D, on top of what comes back along V.
    """

    @staticmethod
    def forward(
        context: Any, features: Tensor, share: Tensor | float, interior: Interior | None
    ) -> tuple[Tensor, Tensor]:
        context.set_materialize_grads(False)
        context.save_for_backward(features)
        context.share, context.interior = share, interior
        v = _inside(features, interior)
        if isinstance(share, float) and interior is None and v.dtype == _full_type(v):
            rows = v.flatten(1, 2)
            return features, torch.bmm(rows.transpose(1, 2), rows).mul_(share)
        # Copies are made strip by strip: a strip's stay in the cache, the whole's would go to memory and come back.
        gram = v.new_zeros(len(v), v.shape[3], v.shape[3], dtype=_full_type(v))
        for strip in _strips(v):
            rows = v[:, strip].to(gram.dtype, memory_format=torch.contiguous_format).flatten(1, 2)
            shared = _shared(rows, share, strip) if isinstance(share, Tensor) else rows
            gram.baddbmm_(shared.transpose(1, 2), rows)
        if isinstance(share, float):
            gram.mul_(share)
        return features, gram

    @staticmethod
    def backward(context: Any, along: Tensor | None, slope: Tensor | None) -> tuple[Tensor | None, None, None]:
        if slope is None:
            return along, None, None
        (features,) = context.saved_tensors
        share, interior = context.share, context.interior
        v = _inside(features, interior)
        if along is not None:
            # Behind copied edges it has channels first; a product in bfloat16 then takes a hundred times as long.
            along = along.contiguous(memory_format=torch.channels_last)
        if isinstance(share, float) and interior is None:
            rows, slope = v.flatten(1, 2), (slope * (2 * share)).to(v.dtype)
            if along is None:
                return torch.bmm(rows, slope).view(v.shape).permute(0, 3, 1, 2), None, None
            # In place; see `gradients`.
            _inside(along, None).flatten(1, 2).baddbmm_(rows, slope)
            return along, None, None
        if along is None:
            along = torch.zeros_like(features)
        onto = _inside(along, interior)
        for strip in _strips(v):
            part = torch.bmm(v[:, strip].flatten(1, 2), (2 * slope).to(v.dtype))
            onto[:, strip] += _shared(part, share, strip).view(onto[:, strip].shape)
        return along, None, None


def _inside(features: Tensor, interior: Interior | None) -> Tensor:
    """(N, h, w, C) of features (N, C, H, W): with channels last in memory a view, and nothing is copied."""
    last = features.permute(0, 2, 3, 1)
    return last if interior is None else last[:, *interior]


def _strips(v: Tensor) -> list[slice]:
    """Rows of v (N, h, w, C) to be worked on at once."""
    rows = v.shape[1]
    if v.device.type == "cpu":
        rows = max(1, GRAM_STRIP // max(1, 4 * v.shape[0] * v.shape[2] * v.shape[3]))
    return [slice(begin, begin + rows) for begin in range(0, v.shape[1], rows)]


def _shared(rows: Tensor, share: Tensor | float, strip: slice) -> Tensor:
    """A strip's rows (N, M, C) with each position's share of the interior's (1 or N, h, w), or with that of all."""
    return rows * (share[:, strip].flatten(1).unsqueeze(2) if isinstance(share, Tensor) else share)


def _full_type(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)
