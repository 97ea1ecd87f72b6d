"""The losses of Gatys, Ecker & Bethge (CVPR 2016), one value per canvas.

They are float32 even if the network computes in less. Gram matrices are divided by the number of positions M_l here, so
that a canvas and a style picture of different sizes can be compared; with equal sizes every loss equals the paper's.
"""

import torch
from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """Equation 3 divided by M_l: G = VᵀV / M, with V the (M, C) matrix of C channels at M positions.

    Args:
        features: (N, C, H, W), any floating type.

    Returns:
        (N, C, C), at least float32.
    """
    n, channels, height, width = features.shape
    # With channels last in memory V is a view, and the reshape copies nothing.
    v = features.permute(0, 2, 3, 1).reshape(n, height * width, channels)
    v = _full(v)
    return torch.bmm(v.transpose(1, 2), v) / (height * width)


def style_loss(features: Tensor, target: Tensor) -> Tensor:
    """Equation 4: E_l = 1 / (4 N_l² M_l²) · Σ (G − A)², with N_l channels and M_l positions.

    Args:
        features: (N, C, H, W), of the canvas.
        target: (N, C, C), the style's Gram matrices divided by its number of positions.

    Returns:
        (N,), at least float32.
    """
    difference = gram_matrix(features) - target
    return difference.square().sum((1, 2)) / (4 * features.shape[1] ** 2)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Equation 1: ½ Σ (F − P)².

    Args:
        features: (N, C, H, W), of the canvas.
        target: (N, C, H, W), float32, of the content picture.

    Returns:
        (N,), at least float32.
    """
    return (_full(features) - target).square().sum((1, 2, 3)) / 2


def total_variation(canvas: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels in 0–255 units, rows and columns added; (N,) of (N, 3, H, W).

    The anisotropic quadratic form (β = 2) of Mahendran & Vedaldi 2015, averaged so as not to grow with the picture.
    """
    levels = 255 * canvas
    rows = (levels[:, :, 1:] - levels[:, :, :-1]).square().mean((1, 2, 3))
    columns = (levels[..., 1:] - levels[..., :-1]).square().mean((1, 2, 3))
    return rows + columns


def _full(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
