"""The losses of Gatys, Ecker & Bethge (CVPR 2016), one value per canvas.

They are float32 even if the network computes in less. Gram matrices are averaged over the M_l positions here, so that a
canvas and a style picture of different sizes can be compared; with equal sizes every loss equals the paper's.
"""

from typing import Any

import torch
from torch import Tensor

# Bytes of float32 that stay in the cache of a core.
_STRIP = 2 << 20


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


def tap_gram_matrix(features: Tensor, share: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
    """The features, and their `gram_matrix`.

    For a network to go on with. Backwards, the gradient that comes from there is added to by the product that makes the
    Gram matrix's: nothing of the features' size is made for it, and nothing waits for its turn.
    """
    if share is None:
        share = 1 / (features.shape[2] * features.shape[3])
    if isinstance(share, Tensor):
        share = share.flatten(1).unsqueeze(2)
    same: Tensor
    gram: Tensor
    same, gram = _Gram.apply(features, share)
    return same, gram


class _Gram(torch.autograd.Function):
    """V and G = VᵀρV, of V (N, M, C) in the layout of features (N, C, H, W); see `_product` for its precision.

    Autograd would go back through both factors; as G is symmetric one product, in the features' own precision, does:
    ∂L/∂V = ρ V (D + Dᵀ), on top of what comes back along V.
    """

    @staticmethod
    def forward(context: Any, features: Tensor, share: Tensor | float) -> tuple[Tensor, Tensor]:
        context.set_materialize_grads(False)
        context.save_for_backward(features)
        context.share = share
        if isinstance(share, Tensor):
            full = _full(_rows(features))
            return features, torch.bmm(full.transpose(1, 2), full * share)
        return features, _product(_rows(features)).mul_(share)

    @staticmethod
    def backward(context: Any, along: Tensor | None, slope: Tensor | None) -> tuple[Tensor | None, None]:
        if slope is None:
            return along, None
        (features,) = context.saved_tensors
        v, share = _rows(features), context.share
        slope = slope + slope.transpose(1, 2)
        if isinstance(share, Tensor):
            gradient = torch.bmm(v, slope.to(v.dtype)).mul_(share)
            if along is not None:
                gradient += _rows(along)
        elif along is None:
            gradient = torch.bmm(v, (slope * share).to(v.dtype))
        else:
            # In place; see `gradients`.
            gradient = _rows(along).baddbmm_(v, (slope * share).to(v.dtype))
        n, channels, height, width = features.shape
        return gradient.view(n, height, width, channels).permute(0, 3, 1, 2), None


def _product(v: Tensor) -> Tensor:
    """VᵀV (N, C, C), at least float32, of V (N, M, C).

    Less than float32 is converted strip by strip: a strip's copy stays in the cache, the whole's would go to memory and
    come back.
    """
    n, positions, channels = v.shape
    strip = max(1, _STRIP // (4 * n * channels))
    if v.dtype == torch.promote_types(v.dtype, torch.float32) or v.device.type != "cpu" or positions <= strip:
        full = _full(v)
        return torch.bmm(full.transpose(1, 2), full)
    full = v.new_empty(n, strip, channels, dtype=torch.float32)
    product = full.new_zeros(n, channels, channels)
    for begin in range(0, positions, strip):
        part = v[:, begin : begin + strip]
        copied = full[:, : part.shape[1]].copy_(part)
        product.baddbmm_(copied.transpose(1, 2), copied)
    return product


def _rows(features: Tensor) -> Tensor:
    """(N, M, C) of (N, C, H, W): with channels last in memory a view, and nothing is copied."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def style_loss(gram: Tensor, target: Tensor) -> Tensor:
    """Equation 4: E_l = 1 / (4 N_l² M_l²) · Σ (G − A)², with N_l channels; M_l is in the averaged matrices already.

    Args:
        gram: (N, C, C), of the canvas.
        target: (1 or N, C, C), of the style.

    Returns:
        (N,).
    """
    return (gram - target).square().sum((1, 2)) / (4 * gram.shape[1] ** 2)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Equation 1: ½ Σ (F − P)².

    Args:
        features: (N, C, H, W), of the canvas.
        target: (1 or N, C, H, W), float32, of the content picture.

    Returns:
        (N,), at least float32.
    """
    # Their difference is float32 because the target is; a converted copy would cost their size again.
    return (features - target).square().sum((1, 2, 3)) / 2


def squared_differences(canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Squared differences of pixels that are neighbours in a column, and in a row, in 0–255 units."""
    levels = 255 * canvas
    return (levels[:, :, 1:] - levels[:, :, :-1]).square(), (levels[..., 1:] - levels[..., :-1]).square()


def total_variation(canvas: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels in 0–255 units, rows and columns added; (N,) of (N, 3, H, W).

    The anisotropic quadratic form (β = 2) of Mahendran & Vedaldi 2015, averaged so as not to grow with the picture.
    """
    down, right = squared_differences(canvas)
    return down.mean((1, 2, 3)) + right.mean((1, 2, 3))


def _full(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
