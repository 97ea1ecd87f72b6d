"""Gram matrices of feature maps, with a backward pass that adds its gradient to the features' gradient in place.

The matrices are averaged over the M_l positions, so that a canvas and a style picture of different sizes can be
compared.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..cost import GRAM_STRIP
from ..device import has_native_bfloat16

# Multiplications of a canvas from which two products in bfloat16 take less time on a CPU than one in float32.
_LARGE = 100_000_000

Interior = tuple[slice, slice]
"""Rows and columns of a feature map."""


def gram_matrix(features: Tensor, share: Tensor | float | None = None) -> Tensor:
    """Returns the averaged Gram matrix: G_ij = Σ_k ρ_k F_ik F_jk, with ρ_k = 1 / M unless a `share` is given.

    With ρ_k = 1 this is equation 3 of Gatys, Ecker & Bethge (CVPR 2016).

    Args:
        features: (N, C, H, W), any floating type.
        share: ρ, the weight of each position: one number for all positions, or (1 or N, H, W). Weights that follow a
            mask give the guided Gram matrix of Gatys et al. 2017 ("Controlling Perceptual Factors in Neural Style
            Transfer", equation 4).

    Returns:
        (N, C, C), at least float32.
    """
    return tap_gram_matrix(features, share)[1]


def tap_gram_matrix(
    features: Tensor, share: Tensor | float | None = None, interior: Interior | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the features and their `gram_matrix`, or the Gram matrix of an interior of the features.

    The network must continue with the returned features. In the backward pass, the gradient of the Gram matrix is then
    added to the gradient that the rest of the network returned, in place: no other tensor of the features' size is
    allocated.

    Args:
        features: (N, C, H, W), any floating type.
        share: as for `gram_matrix`, but for the positions of the interior; None for 1 / (their number).
        interior: rows and columns of the positions that the Gram matrix covers; None for all.

    Returns:
        The features, and (N, C, C), at least float32.
    """
    if share is None:
        inside = _inside(features, interior)
        share = 1 / (inside.shape[1] * inside.shape[2])
    same: Tensor
    gram: Tensor
    same, gram = _Gram.apply(features, share, interior)
    return same, gram


class _Gram(torch.autograd.Function):
    """V and G = VᵀρV, where V (N, M, C) are the features (N, C, H, W); G is summed in at least float32.

    Autograd would differentiate both factors of the product. But G is symmetric, and so is the gradient D of a loss
    that treats G_ij and G_ji alike. So one product, in the precision of the features, is enough: ∂L/∂V = 2 ρ V D plus
    the gradient that arrives for V itself.
    """

    @staticmethod
    def forward(
        context: Any, features: Tensor, share: Tensor | float, interior: Interior | None
    ) -> tuple[Tensor, Tensor]:
        context.set_materialize_grads(False)
        context.save_for_backward(features)
        context.share, context.interior = share, interior
        v = _inside(features, interior)
        if isinstance(share, float) and interior is None and (product := _product_of(v)) is not None:
            return features, product(v.flatten(1, 2)).mul_(share)
        # Copy strip by strip: the copy of a strip stays in the cache, a copy of everything does not.
        gram = v.new_zeros(len(v), v.shape[3], v.shape[3], dtype=_full_type(v))
        for strip in _strips(v):
            rows = v[:, strip].to(gram.dtype, memory_format=torch.contiguous_format).flatten(1, 2)
            weighted = _weighted(rows, share, strip) if isinstance(share, Tensor) else rows
            gram.baddbmm_(weighted.transpose(1, 2), rows)
        if isinstance(share, float):
            gram.mul_(share)
        return features, gram

    @staticmethod
    def backward(
        context: Any, grad_features: Tensor | None, grad_gram: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        if grad_gram is None:
            return grad_features, None, None
        (features,) = context.saved_tensors
        share, interior = context.share, context.interior
        v = _inside(features, interior)
        if grad_features is not None:
            # With replicate padding the gradient has channels first: a bfloat16 product would take 100 times as long.
            grad_features = grad_features.contiguous(memory_format=torch.channels_last)
        if isinstance(share, float) and interior is None:
            rows, grad_gram = v.flatten(1, 2), (grad_gram * (2 * share)).to(v.dtype)
            if grad_features is None:
                return torch.bmm(rows, grad_gram).view(v.shape).permute(0, 3, 1, 2), None, None
            # Changes the gradient in place; the module `gradients` says why this is allowed.
            _inside(grad_features, None).flatten(1, 2).baddbmm_(rows, grad_gram)
            return grad_features, None, None
        if grad_features is None:
            grad_features = torch.zeros_like(features)
        onto = _inside(grad_features, interior)
        for strip in _strips(v):
            part = torch.bmm(v[:, strip].flatten(1, 2), (2 * grad_gram).to(v.dtype))
            onto[:, strip] += _weighted(part, share, strip).view(onto[:, strip].shape)
        return grad_features, None, None


def _product_of(v: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Returns the fastest function from V (N, M, C) to VᵀV (N, C, C) for V like `v`; None if it must be converted."""
    if v.dtype == _full_type(v):
        return _plain if v.is_cuda else _symmetric
    if v.is_cuda:
        return _summed_in_float32
    is_large = v[0].numel() * v.shape[3] >= _LARGE
    return _twice if is_large and v.dtype == torch.bfloat16 and has_native_bfloat16(v.device) else None


def _plain(rows: Tensor) -> Tensor:
    return torch.bmm(rows.transpose(1, 2), rows)


def _summed_in_float32(rows: Tensor) -> Tensor:
    # A GPU sums products of bfloat16 in float32 without a copy of the features.
    return torch.bmm(rows.transpose(1, 2), rows, out_dtype=torch.float32)


def _twice(rows: Tensor) -> Tensor:
    """Returns VᵀV (N, C, C), float32, of V (N, M, C), bfloat16, on a CPU with instructions for bfloat16.

    oneDNN sums in float32, but rounds the sum to bfloat16. A second product, from which the rounded first one is
    subtracted before the rounding, gives its error: together they are accurate to 1e-5. They take half of the time of a
    product in float32.
    """
    gram = rows.new_empty(len(rows), rows.shape[2], rows.shape[2], dtype=torch.float32)
    # Canvas by canvas: a batched product would round differently than the product for one canvas.
    for own, one in zip(gram, torch.split(rows, 1), strict=True):
        rounded = torch.bmm(one.transpose(1, 2), one)
        error = torch.baddbmm(rounded, one.transpose(1, 2), one, beta=-1)
        torch.add(rounded[0].float(), error[0], out=own)
    return gram


def _symmetric(rows: Tensor) -> Tensor:
    """Returns VᵀV (N, C, C) of V (N, M, C), of which only the upper triangle of blocks is computed."""
    channels = rows.shape[2]
    side = -(-channels // 4)
    gram = rows.new_empty(len(rows), channels, channels)
    for begin in range(0, channels, side):
        end = begin + side
        torch.bmm(rows[:, :, begin:end].transpose(1, 2), rows[:, :, begin:], out=gram[:, begin:end, begin:])
        gram[:, end:, begin:end] = gram[:, begin:end, end:].transpose(1, 2)
    return gram


def _inside(features: Tensor, interior: Interior | None) -> Tensor:
    """Returns the interior of features (N, C, H, W) as a view (N, h, w, C)."""
    last = features.permute(0, 2, 3, 1)
    return last if interior is None else last[:, *interior]


def _strips(v: Tensor) -> list[slice]:
    """Returns the rows of v (N, h, w, C) of each strip."""
    rows = v.shape[1]
    if v.device.type == "cpu":
        rows = max(1, GRAM_STRIP // max(1, 4 * v.shape[0] * v.shape[2] * v.shape[3]))
    return [slice(begin, begin + rows) for begin in range(0, v.shape[1], rows)]


def _weighted(rows: Tensor, share: Tensor | float, strip: slice) -> Tensor:
    """Returns a strip's features (N, M, C) times the weight of each position.

    Args:
        rows: (N, M, C), the features of the strip's M positions.
        share: (1 or N, h, w), the weights of the interior's positions, or one weight for all.
        strip: the rows of the interior that the strip covers.
    """
    return rows * (share[:, strip].flatten(1).unsqueeze(2) if isinstance(share, Tensor) else share)


def _full_type(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)
